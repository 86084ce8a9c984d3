"""Record a run as run.json, and draw everything else from it."""
