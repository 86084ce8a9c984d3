"""Erratum 4311569 in Debian's 7.3: boot makes a loop over cache lines run twice."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest
from kexec_verify.refute.functions.record import rerun
from kexec_verify.target import Kernel, debian, open_target
from kexec_verify.verdict import Verdict

from tests.obligations import callee_for_each_choice, troubles

pytestmark = pytest.mark.kernel

NAME, CHOICE = "dcache_clean_inval_poc", "WORKAROUND_4311569"
KEEPS_START, AGAIN = 0x20, 0x34  # where the workaround keeps the first line's address, and goes back to it
NOP = 0xD503201F


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target(debian.in_suite("debian:linux-image-7.3.4+deb13-arm64", "trixie-backports"))


def replaced(kernel: Kernel, offset: int, index: int, word: int) -> Kernel:
    """The kernel with another word in the replacement of the site at ``offset`` in the function."""
    symbol = kernel.symbol(NAME)
    assert symbol is not None and kernel.patching is not None
    at = symbol.address + offset
    (entry,) = (found for found in kernel.patching.alternatives if found.original == at)
    return kernel.patched(entry.replacement + 4 * index, struct.pack("<I", word))


@pytest.mark.parametrize("harmless", [False, True])
def test_repeated_loop_is_proved(kernel: Kernel, harmless: bool):
    # add x0, x3, #0 for mov x0, x3
    target = replaced(kernel, AGAIN, 0, 0x91000060) if harmless else kernel
    composition, results, runs = callee_for_each_choice(target, NAME)
    assert troubles(composition) == []
    assert sorted(set(composition.proved_both_ways.values())) == ["MISMATCHED_CACHE_TYPE", CHOICE]
    assert {result.verdict for result in results} == {Verdict.PROVED}
    said = [r for r in results if r.obligation.sentence.startswith(f"where {CHOICE} is set: ")]
    assert any(result.obligation.name.endswith("-untaken") for result in said)
    # A run takes each path, with the loop crossed twice.
    assert all(runs.seen(result.obligation) for result in results if not result.idle)
    (head,) = {result.obligation.at for result in said if result.obligation.name.endswith("-terminates")}
    assert {result.obligation.path.count(head) for result in said if result.obligation.path} >= {2}


@pytest.mark.parametrize(
    "word", [0xAA0203E3, 0xAA0103E3], ids=["keeps the line's size", "keeps the range's end"]
)
def test_second_round_elsewhere_is_refuted_with_the_choice(kernel: Kernel, word: int):
    broken = replaced(kernel, KEEPS_START, 0, word)
    _, results, runs = callee_for_each_choice(broken, NAME)
    failing = [result for result in results if result.verdict is not Verdict.PROVED]
    assert failing and all(CHOICE in result.obligation.sentence for result in failing)
    shown = next(found for r in failing if (found := runs.refute(r, "callee-contracts")) is not None)
    assert shown.choices == (CHOICE,)
    assert rerun(json.loads(json.dumps(shown.as_dict())), broken.read) == shown


@pytest.mark.parametrize(("index", "word"), [(1, NOP), (0, 0xAA0103E0)], ids=["keeps x3", "mov x0, x1"])
def test_loop_that_is_entered_for_ever_is_not_proved(kernel: Kernel, index: int, word: int):
    composition, _, _ = callee_for_each_choice(replaced(kernel, AGAIN, index, word), NAME)
    found = troubles(composition)
    assert len(found) == 2 and all("entered again" in trouble for trouble in found)
    for choices in (CHOICE, f"MISMATCHED_CACHE_TYPE, {CHOICE}"):
        assert any(trouble.startswith(f"where {choices} is set: ") for trouble in found)
