"""The layout of struct kimage where machine_kexec copies the routine, and where it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kexec_verify.kexec import layout
from kexec_verify.kexec.layout import layout_of
from kexec_verify.kexec.locate import Function
from kexec_verify.specs.kimage import KimageLayout

GENERIC = {"head": 0, "start": 24, "control_code_page": 32, "nr_segments": 56, "segment": 64}


def routine(copied_by: str | None) -> Function:
    return Function("arm64_relocate_new_kernel", 0x1000, b"", "its symbol", copied_by=copied_by)


def kernel(*symbols: str) -> Any:
    return SimpleNamespace(symbol=lambda name: name if name in symbols else None)


@pytest.fixture
def btf(monkeypatch):
    """The structures of a kernel's BTF: none, until a test puts one there."""
    known: dict[str, dict[str, int]] = {}
    monkeypatch.setattr(layout, "member_offsets", lambda kernel, name: known.get(name))
    return known


@pytest.mark.parametrize("copied_by", ["machine_kexec_post_load", None])
def test_known_layout_is_kept_from_5_12_on(btf, copied_by: str | None):
    assert layout_of(kernel(), routine(copied_by), KimageLayout(776)) == KimageLayout(776)
    assert layout_of(kernel(), routine(copied_by), None) == KimageLayout(648)


def test_early_kernel_without_btf_has_arch_fields_with_kexec_file_only(btf):
    early = routine("machine_kexec")
    without = layout_of(kernel(), early, None)
    assert (without.has_arch, without.size) == (False, 640)
    with_file = layout_of(kernel("arch_kimage_file_post_load_cleanup"), early, None)
    assert (with_file.has_arch, with_file.dtb_mem) == (True, 648)


def test_early_kernel_is_believed_its_btf(btf):
    btf["kimage"] = {**GENERIC, "type": 628}
    assert not layout_of(
        kernel("arch_kimage_file_post_load_cleanup"), routine("machine_kexec"), None
    ).has_arch
    btf["kimage"] |= {"arch": 640}
    btf["kimage_arch"] = {"dtb": 0, "dtb_mem": 8}
    found = layout_of(kernel(), routine("machine_kexec"), None)
    assert (found.has_arch, found.dtb_mem) == (True, 648)
