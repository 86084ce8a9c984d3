"""Checks a finished run from its texts: solvers again, then certificates of their answers."""
