"""List what boot patches in a function, for the record."""

from __future__ import annotations

from collections.abc import Container

from kexec_verify.arm64.lift import SIZE, Code, decode, text_of
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.choices import name_of, sites_of
from kexec_verify.report.model import PatchSiteRecord
from kexec_verify.specs.capabilities import meaning
from kexec_verify.target import Kernel


def patch_sites(kernel: Kernel, code: Code, both: Container[int]) -> list[PatchSiteRecord]:
    """Return the places of *code* that some machines patch, by address.

    :param both: those that are proved for each way they may be.
    """
    return [
        PatchSiteRecord(
            site.address,
            choice := name_of(kernel, site),
            meaning(choice),
            _texts(kernel, code, site.address, site.original),
            _texts(kernel, code, site.address, site.replacement or b""),
            site.address in both,
        )
        for site in sorted(sites_of(kernel, code), key=lambda site: site.address)
    ]


def _texts(kernel: Kernel, code: Code, address: int, data: bytes) -> list[str]:
    places = range(0, len(data), SIZE)
    words = [(address + at, int.from_bytes(data[at : at + SIZE], "little")) for at in places]
    return [_text(kernel, code, at, word) for at, word in words]


def _text(kernel: Kernel, code: Code, at: int, word: int) -> str:
    try:
        return code.text(decode(word, at), kernel.called)
    except UnsupportedError:
        return text_of(word, at)
