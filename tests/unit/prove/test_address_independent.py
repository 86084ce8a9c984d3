"""Renaming of symbols: one to one, and nothing else changes."""

from __future__ import annotations

import itertools
import re

from kexec_verify.logic import And, const, var
from kexec_verify.prove.address_independent import address_independent
from kexec_verify.prove.smtlib import script


def test_symbols_are_renamed_one_to_one_without_their_addresses():
    names = ["x@0x10", "x@0x1", "x@0x10/0", "y@0x1", "0x1+0x10", "0x10+0x1", "plain"]
    terms = [var(name) for name in names]
    text = script((), And(*(a != b for a, b in itertools.pairwise(terms))))
    renamed = address_independent(text)
    declared = [set(re.findall(r"declare-fun \|([^|]*)\|", t)) for t in (text, renamed)]
    assert declared[0] == set(names)
    assert len(declared[1]) == len(names) and not any("0x" in name for name in declared[1])
    assert "plain" in declared[1]
    assert address_independent(renamed) == renamed


def test_constants_are_no_names():
    text = script((), var("x") == const(0x10))
    assert address_independent(text) == text


def test_a_symbol_that_could_be_mistaken_for_a_number_is_left():
    text = script((), var("x@0x10") == var("x@&0"))
    assert address_independent(text) == text
