"""Compare two kernels: what changed, and whether they still reach the same entry in the same state."""
