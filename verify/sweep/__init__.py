"""Many kernels, one after the other: which there are, what came of each, and what they share."""
