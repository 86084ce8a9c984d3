"""The code of a function: all ranges of bytes that control goes to, and the functions that never return."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.copier import Copier
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.refute.functions.contract_check import breach, runs
from kexec_verify.specs.contracts import contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.target.kernel import Segment
from kexec_verify.target.symbols import ListedNames, SymbolTable
from kexec_verify.verdict import Verdict

from tests.obligations import of_machine_kexec

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
GENERIC = "__pi_memcpy_generic"
APART = 0x10000  # bytes between the image's end and what is added to it
NOP, RET = 0xD503201F, 0xD65F03C0


def branch(at: int, target: int) -> int:
    """``b target`` at ``at``."""
    return 0b000101 << 26 | (target - at) // 4 & (1 << 26) - 1


def context(kernel: Kernel) -> KexecContext:
    return KexecContext(kernel, KimageLayout(648), 4096)


def with_function(kernel: Kernel, name: str, at: int, data: bytes) -> Kernel:
    """The kernel with one more function, at an address that has no bytes yet."""
    known = list(kernel.symbols)
    names, places = [s.name for s in known], [s.address for s in known]
    sizes = [s.size or 0 for s in known]
    table = SymbolTable(
        ListedNames([*names, name]), array("Q", [*places, at]), array("Q", [*sizes, len(data)])
    )
    return replace(kernel, segments=(*kernel.segments, Segment(at, data)), symbols=table)


def split(change: Callable[[bytes], bytes] = lambda data: data) -> Kernel:
    """A kernel whose memcpy is one branch to its generic version, as from 6.16 on."""
    kernel = open_target(str(IMAGE))
    own = kernel.symbol("memcpy")
    assert own is not None and own.size is not None
    at = kernel.segments[-1].end + APART & -16
    kernel = with_function(kernel, GENERIC, at, change(kernel.read(own.address, own.size)))
    return kernel.patched(own.address, branch(own.address, at).to_bytes(4, "little"))


def swapped(number: int, word: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return data[: 4 * number] + word.to_bytes(4, "little") + data[4 * number + 4 :]

    return change


def verdicts(kernel: Kernel) -> set[Verdict]:
    routine = find_routine(kernel)
    copier = Copier(context(kernel), "memcpy", routine.address, len(routine.code), decide)
    copier.prove()
    return {result.verdict for result in Discharger(10).discharge(copier.obligations)}


def test_a_function_goes_on_where_it_branches_to():
    code = context(split()).code("memcpy")
    (further,) = code.continuations
    assert (further.name, further.address in code, code.end in code) == (GENERIC, True, False)
    assert code.where(further.address + 4) == f"{GENERIC}+0x4/{len(further.data):#x}"
    assert code.at(further.address).word == int.from_bytes(further.data[:4], "little")


def test_a_branch_to_a_function_with_a_contract_is_a_tail_call():
    kernel = open_target(str(IMAGE))
    own, other = kernel.symbol("__hyp_set_vectors"), kernel.symbol("dcache_clean_inval_poc")
    assert own is not None and other is not None
    kernel = kernel.patched(own.address, branch(own.address, other.address).to_bytes(4, "little"))
    assert context(kernel).code("__hyp_set_vectors").continuations == ()


def test_endless_branches_are_refused():
    kernel = open_target(str(IMAGE))
    own = kernel.symbol("__hyp_set_vectors")
    assert own is not None
    at = (kernel.segments[-1].end + APART) & -16
    kernel = kernel.patched(own.address, branch(own.address, at).to_bytes(4, "little"))
    for number in range(17):
        word = branch(at, at + 64)
        kernel = with_function(kernel, f"part{number}", at, word.to_bytes(4, "little"))
        at += 64
    with pytest.raises(UnsupportedError, match="goes on in more than 16 places"):
        context(kernel).code("__hyp_set_vectors")


def test_a_copy_behind_a_branch_is_proved_and_runs():
    kernel = split()
    assert verdicts(kernel) == {Verdict.PROVED}
    found, memcpy = context(kernel), contract("memcpy")
    assert memcpy is not None
    routine = find_routine(kernel)
    copies = [(routine.address, len(routine.code))]
    ran = list(runs(found, memcpy, found.code("memcpy"), copies))
    assert ran and all(run.left.kind == "ret" for run in ran if run.left is not None)
    assert breach(found, memcpy, found.code("memcpy"), copies) is None


FAULTS = {
    "loads no byte": (10, NOP),
    "stores nothing": (5, NOP),
    "stores one register twice": (5, 0xA8810CC3),
    "returns at once": (0, RET),
    "calls the rest done": (9, 0x1400_0005),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_copy_behind_a_branch_with_a_fault_is_not_proved(fault):
    kernel = split(swapped(*fault))
    found, memcpy, routine = context(kernel), contract("memcpy"), find_routine(kernel)
    assert memcpy is not None
    assert verdicts(kernel) != {Verdict.PROVED}
    assert breach(found, memcpy, found.code("memcpy"), [(routine.address, len(routine.code))]) is not None


def test_a_function_that_never_returns_is_not_followed():
    kernel = open_target(str(IMAGE))
    found = context(kernel)
    names = {"cpu_soft_restart", "__cpu_soft_restart", "__stack_chk_fail"}
    known = {symbol.address for name in names if (symbol := kernel.symbol(name)) is not None}
    assert found.code("machine_kexec").final == known
    assert found.restart <= known


OUTLINED = "__cpu_set_something"
OUTLINED_AT = 0x2C  # of `and w0, w0, #0xff` in machine_kexec
AND_W0_BYTE, HVC, MSR_TTBR0_X0, SUB_SP_16 = 0x12001C00, 0xD4000002, 0xD5182000, 0xD10043FF


def call(at: int, target: int) -> int:
    """``bl target`` at ``at``."""
    return 0b100101 << 26 | (target - at) // 4 & (1 << 26) - 1


def outlined(*words: int) -> Kernel:
    """A kernel in which one instruction of machine_kexec is a call of a function, as compilers do at -Os."""
    kernel = open_target(str(IMAGE))
    own = kernel.symbol("machine_kexec")
    assert own is not None
    here = own.address + OUTLINED_AT
    assert kernel.read(here, 4) == AND_W0_BYTE.to_bytes(4, "little")
    at = (kernel.segments[-1].end + APART) & -16
    kernel = with_function(kernel, OUTLINED, at, b"".join(word.to_bytes(4, "little") for word in words))
    return kernel.patched(here, call(here, at).to_bytes(4, "little"))


def unproved(kernel: Kernel) -> set[str]:
    results = Discharger(10).discharge(of_machine_kexec(kernel))
    return {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}


@pytest.mark.slow
def test_a_small_function_is_run_in_place_of_its_call():
    unchanged = unproved(open_target(str(IMAGE)))
    assert unchanged == {"mk-icache-invalid"}
    assert unproved(outlined(AND_W0_BYTE, RET)) == unchanged


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, broken",
    [((HVC, RET), "mk-effect"), ((NOP, MSR_TTBR0_X0, RET), "mk-effect"), ((SUB_SP_16, RET), "mk-")],
    ids=["asks EL2", "selects a table", "moves SP"],
)
def test_a_fault_in_a_small_function_is_not_proved(words, broken):
    assert any(name.startswith(broken) for name in unproved(outlined(*words)) - {"mk-icache-invalid"})


ENDLESS, CALLS_NOTHING_KNOWN = 0x14000000, 0x94000040


def test_an_endless_small_function_is_refused():
    with pytest.raises(UnsupportedError, match="loop in which no register advances"):
        of_machine_kexec(outlined(ENDLESS, RET))


@pytest.mark.parametrize(
    "words",
    [(CALLS_NOTHING_KNOWN, RET), (*[NOP] * 64, RET)],
    ids=["call without a contract", "long"],
)
def test_another_function_without_a_contract_is_refused_by_name(words):
    with pytest.raises(UnsupportedError, match=f"call of {OUTLINED}, which has no contract"):
        of_machine_kexec(outlined(*words))


def test_a_function_is_entered_at_its_start_alone():
    kernel = outlined(NOP, NOP, RET)
    own, other = kernel.symbol("machine_kexec"), kernel.symbol(OUTLINED)
    assert own is not None and other is not None
    here = own.address + OUTLINED_AT
    kernel = kernel.patched(here, call(here, other.address + 4).to_bytes(4, "little"))
    assert context(kernel).code("machine_kexec").continuations == ()


@pytest.mark.parametrize(
    "name", ["__asan_load8_noabort", "__asan_report_load8_noabort", "__hwasan_load8_noabort"]
)
def test_address_map_of_a_kernel_with_kasan_is_refused(name: str):
    kernel = open_target(str(IMAGE))
    at = kernel.segments[-1].end + APART & -16
    state = context(kernel).bare_entry("machine_kexec")
    context(kernel).address_map(state)
    with pytest.raises(UnsupportedError, match="KASAN"):
        context(with_function(kernel, name, at, RET.to_bytes(4, "little"))).address_map(state)
