"""How a run is shown: run.json first, everything else drawn from it."""
