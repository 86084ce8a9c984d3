"""Where the struct pages are, as code that is not under proof says."""

from __future__ import annotations

from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec import witnesses
from kexec_verify.kexec.context import KexecContext
from kexec_verify.specs.address_map import first_struct_pages

_USERS = ("machine_kexec_post_load", "kimage_free", "kimage_alloc_control_pages")
"""Functions that compute addresses of pages from struct pages, none of which builds a list."""


def first_struct_page(context: KexecContext) -> int:
    """Return the address of the struct page of the linear map's first page: two functions must agree on it.

    :raises UnsupportedError: if they do not.
    """
    size = 1 << 64
    candidates = set(first_struct_pages(context.page_offset, context.page_size))
    said = []
    for function in _USERS:
        held = witnesses.constants_held(context.kernel, function)
        used = {at for at in candidates if at in held or -at % size in held}
        said += [used] if used else []
    if len(said) < 2 or any(used != said[0] for used in said) or len(said[0]) != 1:
        raise UnsupportedError(
            "kernel whose struct pages are not known: no two functions agree where they are"
        )
    return said[0].pop()
