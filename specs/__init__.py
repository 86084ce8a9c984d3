"""What is claimed of kexec on arm64: the files a reviewer reads to trust a verdict."""
