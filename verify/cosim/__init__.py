"""Co-simulation: compare the engine's meaning of each instruction with Unicorn's."""
