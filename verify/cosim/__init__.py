"""Co-simulation: does our engine's meaning of each instruction agree with Unicorn's?"""
