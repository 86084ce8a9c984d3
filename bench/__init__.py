"""Measurements: what the tool costs, and what other ways to look at the same routine cost and prove."""
