"""The second judge: run the real bytes on QEMU's whole machine, with page tables, exceptions and EL2."""
