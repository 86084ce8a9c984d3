"""Two kernels' terms side by side: what is not given to both must not be taken for the same."""

from __future__ import annotations

from kexec_verify.diff.rename import Renamer
from kexec_verify.logic import Function, Not, const, same, var
from kexec_verify.prove.discharge import decide

OLD, NEW = Renamer("OLD: "), Renamer("NEW: ")


def test_given_values_are_the_same_on_both_sides():
    term = var("sctlr_el1@machine_kexec") & 4
    assert same(OLD.term(term), NEW.term(term))


def test_a_callees_result_is_not_the_same_on_both_sides():
    term = var("x0@cpu_do_switch_mm#1")
    assert not decide((), OLD.term(term) == NEW.term(term))


def test_a_word_of_the_image_is_not_the_same_on_both_sides():
    # At one address the two images hold different globals.
    term = Function("the image@entry")(const(0xFFFF_8000_0800_8000))
    assert not decide((), OLD.term(term) == NEW.term(term))


def test_arguments_of_functions_are_renamed():
    term = Function("kimage@entry")(var("x3@entry") + 8)
    moved = Renamer("", {"x3@entry": var("x0@machine_kexec")}).term(term)
    assert same(moved, Function("kimage@entry")(var("x0@machine_kexec") + 8))


def test_functions_can_be_put_for_words():
    term = Function("M0")(var("x0@entry") + 24)
    put = Renamer("", {"x0@entry": const(0x1000)}, {"M0": lambda address: address + 1}).term(term)
    assert decide((), put == const(0x1019))


def test_a_substitute_may_hold_the_variable_that_it_stands_for():
    x0, x1 = var("x0@entry"), var("x1@entry")
    swapped = Renamer("", {"x0@entry": x1, "x1@entry": x0}).term(x0 - x1)
    assert decide((), swapped == x1 - x0)
    assert not decide((), Not(swapped != x0 - x1))
