"""Mutation: what happens to a verdict when the code, an assumption or the verifier is changed."""
