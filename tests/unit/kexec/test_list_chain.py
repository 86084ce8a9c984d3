"""From the functions that build the list to what is read: proved, and each hypothesis is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.kexec.list_chain import build
from kexec_verify.kexec.list_code import any_segment
from kexec_verify.logic import var
from kexec_verify.prove.discharge import Discharger, vacuous
from kexec_verify.specs.address_map import AddressMap, linear_map_end
from kexec_verify.specs.image_builder import Pages

PAGE_OFFSET, FIRST = 0xFFFF_0000_0000_0000, 0xFFFF_FC00_0000_0000


def pages(size: int) -> Pages:
    end = linear_map_end(PAGE_OFFSET, size)
    return Pages(AddressMap(var("kimage_voffset"), var("memstart_addr"), PAGE_OFFSET, end), size, FIRST)


@pytest.mark.parametrize("size", [1 << 12, pytest.param(1 << 14, marks=pytest.mark.campaign)])
def test_what_is_read_is_proved(size):
    results = Discharger().discharge(build(pages(size), any_segment()))
    assert vacuous(results) == [] and {r.verdict.name for r in results} == {"PROVED"}


NEEDED = {
    "memstart-aligned": {"list-chain-follows", "list-chain-one-flag", "list-chain-finite"},
    "kimage_terminate has ended the list": {"list-chain-head", "list-chain-one-flag", "list-chain-finite"},
    "I2": {"list-chain-follows", "list-chain-head", "list-chain-one-flag", "list-chain-finite"},
    "I3 of its page": {"list-chain-apart"},
    "not the head": {"list-chain-apart"},
}


@pytest.mark.parametrize("label", NEEDED)
def test_what_each_hypothesis_is_needed_for(label):
    without = [
        replace(o, hypotheses=tuple(h for h in o.hypotheses if h[0] != label))
        for o in build(pages(1 << 12), any_segment())
    ]
    results = Discharger(limit=5).discharge(without)
    assert {r.obligation.name for r in results if r.verdict.name != "PROVED"} == NEEDED[label]
