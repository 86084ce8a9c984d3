"""Read the layout of struct kimage from the kernel's BTF."""

from __future__ import annotations

from kexec_verify.errors import TargetError
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel
from kexec_verify.target.btf import member_offsets

_GENERIC = ("head", "start", "control_code_page", "nr_segments", "segment")
_FIELDS = ("dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz")


def stated_layout(kernel: Kernel) -> KimageLayout | None:
    """Return the layout by BTF, or None if there is no BTF or no struct kimage_arch with these fields.

    :raises TargetError: if the fields are not consecutive.
    """
    kimage, arch = member_offsets(kernel, "kimage"), member_offsets(kernel, "kimage_arch")
    if kimage is None or arch is None:
        return None
    if not {*_GENERIC, "arch"} <= set(kimage) or not set(_FIELDS) <= set(arch):
        return None
    first = arch["dtb_mem"]
    layout = KimageLayout(kimage["arch"] + first, *(kimage[name] for name in _GENERIC))
    for name in _FIELDS:
        if kimage["arch"] + arch[name] != getattr(layout, name):
            found = ", ".join(f"{field} {arch[field]}" for field in _FIELDS)
            raise TargetError(
                f"{kernel.source}: expected the fields of struct kimage_arch in a row, found {found}"
            )
    return layout
