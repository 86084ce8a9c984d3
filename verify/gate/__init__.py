"""The proof gate: whether finished runs are good enough for a CI to go on."""
