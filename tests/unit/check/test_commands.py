"""A solver is given the commands that this tool prints, and no others."""

from __future__ import annotations

import pytest
from kexec_verify.check.commands import require_printed
from kexec_verify.errors import TargetError

SOUND = """(set-logic QF_UFBV)
(declare-fun |x (0; "a"@entry| () (_ BitVec 64))
(define-fun t0 () Bool (= |x (0; "a"@entry| (_ bv5 64)))
(assert (! t0 :named |hypothesis|))
(check-sat)
"""


def test_what_this_tool_prints_is_taken():
    require_printed(SOUND, "a.smt2")


@pytest.mark.parametrize(
    "added",
    [
        '(set-option :regular-output-channel "/tmp/file")',
        "(set-option :regular-output-channel |/tmp/file|)",
        "(check-sat)(exit)",
        "( include |/etc/passwd|)",
        "(\nset-option :x true)",
        "()",
        "(assert true",
        "(assert true))",
        "; a comment",
        "exit",
        "|open",
    ],
)
def test_anything_else_is_refused(added):
    with pytest.raises(TargetError, match=r"^a\.smt2: expected "):
        require_printed(SOUND + added, "a.smt2")
