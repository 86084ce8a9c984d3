"""Symbolic execution: memory terms, machine state, execution between cutpoints, loops."""
