"""Concrete runs of kexec's C functions, of the restart code and of the hyp stub."""
