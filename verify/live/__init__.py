"""Boots a real kernel under QEMU, lets kexec-tools load an image, and holds what proofs assume against it."""
