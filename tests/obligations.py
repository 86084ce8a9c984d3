"""The proof obligations of one function of a shipped kernel, or of a copy that was patched."""

from __future__ import annotations

from kexec_verify.arm64.lift import Code
from kexec_verify.kexec import relocation
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.refute.functions.paths import PathRuns
from kexec_verify.specs.contracts import contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel

LAYOUT = KimageLayout(648)


def context(kernel: Kernel) -> KexecContext:
    return KexecContext(kernel, LAYOUT, 4096)


def of_machine_kexec(kernel: Kernel) -> list[Obligation]:
    proof = MachineKexec(context(kernel), decide, False, False)
    proof.prove()
    return proof.obligations


def of_post_load(kernel: Kernel, mmu_on: bool = True) -> list[Obligation]:
    proof = PostLoad(context(kernel), decide, find_routine(kernel), False, mmu_on)
    proof.prove()
    return proof.obligations


def of_restart(kernel: Kernel) -> list[Obligation]:
    return of_restart_in(context(kernel))


def of_restart_in(found: KexecContext) -> list[Obligation]:
    proof = SoftRestart(found, decide)
    proof.prove()
    return proof.obligations


def of_routine(kernel: Kernel, single_flags: bool = False) -> list[Obligation]:
    found = find_routine(kernel)
    code = Code(found.name, found.address, found.code)
    return relocation.build(code, recognise(code, 4096, LAYOUT), decide, single_flags)


def troubles(composition: Composition) -> list[str]:
    """Why parts of a kernel could not be executed."""
    return [str(part.trouble) for part in composition.parts.values() if part.trouble is not None]


def callee_for_each_choice(kernel: Kernel, name: str) -> tuple[Composition, list[Result], PathRuns]:
    """What becomes of one callee's contract, for each choice of boot."""
    routine, discharger = find_routine(kernel), Discharger()
    code = Code(routine.name, routine.address, routine.code)
    variant = recognise(code, kernel.page_size)
    composition = Composition(kernel, variant, routine, discharger.decide, choices=True)
    symbol, found = kernel.symbol(name), contract(name)
    assert symbol is not None and found is not None
    composition.contracts[name] = symbol.address, found
    composition.build_callees()
    required = [o for part in composition.parts.values() for o in part.obligations]
    return composition, discharger.discharge(required), PathRuns(composition)
