"""Cache results of earlier runs, keyed by a hash of the query and authenticated by a seal."""
