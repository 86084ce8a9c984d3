"""Refutation: small concrete lists, run on the target's own bytes, that break a property."""
