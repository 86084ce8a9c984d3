"""kexec-verify: proofs about what compiled arm64 kernels do in kexec."""

__version__ = "0.1.0"
