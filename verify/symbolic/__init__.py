"""How code is run: memory terms, machine state, execution between cutpoints, loops."""
