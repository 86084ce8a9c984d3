"""The layout of struct kimage: by the kernel's BTF, or of the most configurations."""

from __future__ import annotations

from kexec_verify.errors import TargetError
from kexec_verify.kexec.locate import Function
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel
from kexec_verify.target.btf import member_offsets

_ARCH = 648  # offset of the first arch field that kexec reads, from 4.13 to 6.12
_LAST = "type"  # the first of the flags behind which struct kimage_arch is located, if there is one
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
    layout = _with_generic(kimage, kimage["arch"] + first)
    for name in _FIELDS:
        if kimage["arch"] + arch[name] != getattr(layout, name):
            found = ", ".join(f"{field} {arch[field]}" for field in _FIELDS)
            raise TargetError(
                f"{kernel.source}: expected the fields of struct kimage_arch in a row, found {found}"
            )
    return layout


def layout_of(kernel: Kernel, routine: Function, known: KimageLayout | None) -> KimageLayout:
    """Return the layout of struct kimage in a kernel.

    :param known: by BTF, or inferred from the routine's code; None if neither says.
    """
    return layout_before_post_load(kernel, _ARCH) if routine.copied_at_last else known or KimageLayout(_ARCH)


def layout_before_post_load(kernel: Kernel, arch: int) -> KimageLayout:
    """The layout in a kernel before 5.12, which has a struct kimage_arch with CONFIG_KEXEC_FILE only.

    Its BTF says whether it has one; without BTF, whether it has a function of machine_kexec_file.c does.

    :param arch: offset of ``dtb_mem`` where there is such a field.
    """
    kimage = member_offsets(kernel, "kimage")
    if kimage is not None and {*_GENERIC, _LAST} <= set(kimage):
        if "arch" not in kimage:
            return _with_generic(kimage, (kimage[_LAST] + 8) & -8, has_arch=False)
        own = member_offsets(kernel, "kimage_arch") or {}
        return _with_generic(kimage, kimage["arch"] + own["dtb_mem"] if "dtb_mem" in own else arch)
    has_arch = kernel.symbol("arch_kimage_file_post_load_cleanup") is not None
    return KimageLayout(arch if has_arch else arch - 8, has_arch=has_arch)


def _with_generic(kimage: dict[str, int], arch: int, has_arch: bool = True) -> KimageLayout:
    """The layout with the offsets of the fields that every architecture has."""
    head, start, control_code_page, nr_segments, segment = (kimage[name] for name in _GENERIC)
    return KimageLayout(arch, head, start, control_code_page, nr_segments, segment, has_arch)
