"""What earlier runs found, kept under the hash of what was asked: never believed without its seal."""
