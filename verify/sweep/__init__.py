"""Verify many kernels one after the other: choose them, record results, compare functions."""
