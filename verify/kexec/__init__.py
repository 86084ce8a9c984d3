"""kexec's own functions: locate them, recognise their ABI variant, and build their proof obligations."""
