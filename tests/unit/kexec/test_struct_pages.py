"""Where the struct pages are: two functions other than those under proof must agree."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec import witnesses
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.struct_pages import first_struct_page

CONTEXT = cast(KexecContext, SimpleNamespace(kernel=None, page_offset=0xFFF0_0000_0000_0000, page_size=4096))
EARLIER, LATER = 0xFFFF_C000_0000_0000, 0xFFFF_C1FF_C000_0000


def found(monkeypatch: pytest.MonkeyPatch, **held: set[int]) -> int:
    def constants(kernel: Any, function: str) -> set[int]:
        return held.get(function, set())

    monkeypatch.setattr(witnesses, "constants_held", constants)
    return first_struct_page(CONTEXT)


@pytest.mark.parametrize("first", [EARLIER, LATER])
def test_two_functions_agree_by_the_address_or_its_negative(monkeypatch, first):
    negative = -first % (1 << 64)
    assert found(monkeypatch, machine_kexec_post_load={first, 5}, kimage_free={negative}) == first


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"kimage_free": {LATER}},
        {"kimage_free": {LATER}, "machine_kexec_post_load": {EARLIER}},
        {"kimage_free": {LATER, EARLIER}, "machine_kexec_post_load": {LATER, EARLIER}},
        {"kimage_free": {LATER}, "kimage_add_entry": {LATER}},
    ],
)
def test_else_it_is_not_known(monkeypatch, held):
    with pytest.raises(UnsupportedError, match="struct pages"):
        found(monkeypatch, **held)
