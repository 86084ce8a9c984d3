"""How claims are discharged: obligations as SMT-LIB text, solvers, verdicts."""
