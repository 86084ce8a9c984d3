"""The second judge: the real bytes run on QEMU's whole machine, with page tables, exceptions and EL2."""
