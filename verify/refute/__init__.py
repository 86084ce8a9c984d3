"""Refute properties: find small concrete lists that break one, run on the target's own bytes."""
