"""The reader of obligations' texts: what it takes and what it refuses."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import And, Function, If, Not, const, ult, var
from kexec_verify.prove.read import BOOL, Node, read
from kexec_verify.prove.smtlib import script

X = "(declare-fun x () (_ BitVec 8))"
REFUSED = {
    "command": f"{X}(push 1)(check-sat)",
    "two checks": f"{X}(check-sat)(check-sat)",
    "no check": X,
    "after the check": "(check-sat)(assert true)",
    "unknown symbol": f"{X}(assert (= x y))(check-sat)",
    "unknown operator": f"{X}(assert (= (bvnand x x) x))(check-sat)",
    "widths": f"{X}(assert (= x (_ bv1 4)))(check-sat)",
    "formula in a sum": f"{X}(assert (= (bvadd x true) x))(check-sat)",
    "a sum of three": f"{X}(assert (= (bvadd x x x) x))(check-sat)",
    "bits that are not there": f"{X}(assert (= ((_ extract 8 0) x) x))(check-sat)",
    "constant too big": f"{X}(assert (= x (_ bv256 8)))(check-sat)",
    "declared twice": f"{X}{X}(check-sat)",
    "defined twice": "(define-fun t () Bool true)(define-fun t () Bool false)(check-sat)",
    "other sort than said": f"{X}(define-fun t () Bool x)(check-sat)",
    "assertion of a word": f"{X}(assert x)(check-sat)",
    "arity": "(declare-fun f ((_ BitVec 8)) (_ BitVec 8))(assert (= (f) (f)))(check-sat)",
    "quantifier": "(assert (forall ((y Bool)) y))(check-sat)",
    "logic": "(set-logic ALL)(check-sat)",
    "open parenthesis": "(check-sat",
    "closed parenthesis": "(check-sat))",
    "open bar": "(declare-fun |x () Bool)(check-sat)",
    "outside of a command": "true (check-sat)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_text_that_the_printer_does_not_write_is_refused(name):
    with pytest.raises(UnsupportedError):
        read(REFUSED[name])


def test_what_the_printer_writes_is_read():
    x, y = var("a b|c".replace("|", "_")), Function("mem")(var("p"))
    goal = If(ult(x, y), x + 1, ~(y ^ x) * 3) == const(7)
    read_back = read(script([("a label; (with) signs", And(ult(x, y), Not(x == y)))], goal, ["a comment"]))
    assert len(read_back.assertions) == 2
    assert all(read_back.nodes[index].width == BOOL for index in read_back.assertions)
    assert [node.name for node in read_back.nodes if node.op == "apply"] == ["|mem|"]


def test_equal_terms_are_one_node():
    found = read(f"{X}(define-fun s () (_ BitVec 8) (bvadd x x))(assert (= (bvadd x x) s))(check-sat)")
    assert sum(node.op == "bvadd" for node in found.nodes) == 1
    assert found.nodes[found.names["x"]] == Node("var", (), 8, name="x")


def test_brackets_in_names_and_comments_do_not_count():
    text = "; (a comment\n(declare-fun |x (y| () Bool)\n(assert (! |x (y| :named |0:l(|))\n(check-sat)\n"
    assert len(read(text).assertions) == 1
