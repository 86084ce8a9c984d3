"""State what is claimed of kexec on arm64. To trust a verdict, a reviewer reads only these files."""
