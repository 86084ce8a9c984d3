"""Every wrong version of the whole path is refuted by a replayed run; the right versions' paths all run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kexec_verify.errors import InternalError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, HypStub, SoftRestart
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.refute.functions.record import format_call, rerun
from kexec_verify.refute.functions.search import refute, witnesses
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

from tests.corpus_build import load_build

BINARIES = Path(__file__).resolve().parents[2] / "binaries"
STATES = ("later", "seed-after", "seed-before")
COMPILERS = ("gcc", "clang")
LIMIT = 5.0
ARCH = 648  # offset of struct kimage_arch in the corpus
VARIANT = {"later": (False, False), "seed-after": (False, True), "seed-before": (True, True)}

# The function whose proof must fail, and the obligations of which a run must refute one.
EXPECTED = {
    26: ("restart", "restart-hvc"),
    27: ("stub", "stub-soft-restart"),
    29: ("machine_kexec", "mk-translation-order"),
    30: ("post_load", "pl-segments-clean"),
    31: ("post_load", "pl-segments-clean"),
    32: ("post_load", "pl-segments-clean"),
    33: ("post_load", "pl-segments-clean", "pl-code-fetchable"),
    34: ("post_load", "pl-copied"),
    35: ("post_load", "pl-kern-reloc"),
    36: ("machine_kexec", "mk-idmap"),
    37: ("machine_kexec", "mk-inplace-restart"),
    38: ("machine_kexec", "mk-inplace-restart"),
    39: ("machine_kexec", "mk-inplace-restart"),
    101: ("machine_kexec", "mk-idmap"),
    102: ("machine_kexec", "mk-masked"),
    103: ("copied stub", "stub-copy-soft-restart"),
}


def cases() -> Iterator[Any]:
    """Each fault in each version of the kernel; all but one version of each are left to the campaign."""
    for number, fault in enumerate(EXPECTED):
        states = STATES if fault != 103 else ("later",)
        versions = list(itertools.product(states, COMPILERS))
        for version in versions:
            chosen = version == versions[number % len(versions)]
            yield pytest.param(fault, *version, marks=() if chosen else pytest.mark.campaign)


WHATS = ("machine_kexec", "post_load", "restart", "stub", "copied stub")
# Of each function, one compiler's version of each state is not.
RIGHT = [
    pytest.param(state, compiler, what, marks=() if one == chosen % len(COMPILERS) else pytest.mark.campaign)
    for number, what in enumerate(WHATS)
    for chosen, state in enumerate(STATES, number)
    for one, compiler in enumerate(COMPILERS)
    if what != "copied stub" or state == "later"
]


build_module = cache(load_build)


@pytest.fixture(scope="session")
def wrong_version(require_tool, tmp_path_factory) -> Callable[[int, str, str], Path]:
    """A function (fault, state, compiler) that returns the image, each fault built once (Path)."""
    require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    folder = tmp_path_factory.mktemp("faults")
    built: set[int] = set()

    def image(fault: int, state: str, compiler: str) -> Path:
        if fault not in built:
            build_module().build_fault(folder, fault)
            built.add(fault)
        return folder / f"{state}-4k-{compiler}-fault{fault}.elf"

    return image


def proof_of(path: Path, state: str, what: str) -> Any:
    """The function's proof, its obligations not yet discharged."""
    kernel = open_target(str(path))
    context = KexecContext(kernel, KimageLayout(ARCH), kernel.page_size or 4096)
    through_routine, by_restart = VARIANT[state]
    match what:
        case "machine_kexec":
            proof: Any = MachineKexec(context, decide, through_routine, by_restart)
        case "post_load":
            proof = PostLoad(context, decide, find_routine(kernel), through_routine, state == "later")
        case "restart":
            proof = SoftRestart(context, decide)
        case _:
            copied = what == "copied stub"
            proof = HypStub(context, COPIED_VECTORS if copied else VECTORS, copied)
    proof.prove()
    return proof


@pytest.mark.mutant
@pytest.mark.toolchain
@pytest.mark.slow
@pytest.mark.parametrize(("fault", "state", "compiler"), list(cases()))
def test_a_wrong_version_is_refuted_by_a_run(fault, state, compiler, wrong_version):
    what, *names = EXPECTED[fault]
    proof = proof_of(wrong_version(fault, state, compiler), state, what)
    required = [obligation for obligation in proof.obligations if obligation.name in names]
    failing = [r for r in Discharger(LIMIT).discharge(required) if r.verdict is not Verdict.PROVED]
    assert failing, f"every {names} of the wrong version is proved"
    shown = next(filter(None, (refute(proof, result, "a property") for result in failing)), None)
    assert shown is not None, f"no run shows that {failing[0].obligation.sentence} is false"
    # What is stored is enough to repeat the run, and the right version's bytes do not show it.
    record = json.loads(json.dumps(shown.as_dict()))
    assert record["kind"] == "call" and record["steps"] and record["found"]
    assert rerun(record, proof.context.kernel.read) == shown
    assert any(shown.found in line for line in format_call(shown))
    kernel = open_target(str(BINARIES / "whole" / f"{state}-4k-{compiler}.elf"))
    with pytest.raises(InternalError):
        rerun(record, kernel.read)


@pytest.mark.mutant
@pytest.mark.slow
@pytest.mark.parametrize(("state", "compiler", "what"), RIGHT)
def test_every_path_of_a_right_version_is_taken_by_a_run(state, compiler, what):
    proof = proof_of(BINARIES / "whole" / f"{state}-4k-{compiler}.elf", state, what)
    paths = {obligation.path for obligation in proof.obligations if obligation.path}
    unseen = {path for path, found in witnesses(proof, sorted(paths)).items() if found is None}
    required = [obligation for obligation in proof.obligations if obligation.path in unseen]
    live = [r.obligation for r in Discharger(LIMIT).discharge(required) if not r.idle]
    assert not live, f"no run takes the path of: {live[0].sentence}"
