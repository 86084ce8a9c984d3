"""Mutation: change the code, an assumption or the verifier, and see whether the verdict changes."""
