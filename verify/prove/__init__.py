"""Proof of obligations: SMT-LIB text, solvers, verdicts."""
