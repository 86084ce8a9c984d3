"""The proof obligations of one function of a shipped kernel, or of a copy that was patched."""

from __future__ import annotations

from specs.kimage import KimageLayout
from verify.arm64.lift import Code
from verify.kexec import relocation
from verify.kexec.form import recognise
from verify.kexec.locate import find_routine
from verify.kexec.machine_kexec import MachineKexec
from verify.kexec.post_load import PostLoad
from verify.kexec.soft_restart import SoftRestart
from verify.kexec.whole import Whole
from verify.obligation import Obligation
from verify.prove.discharge import decide
from verify.target import Kernel

LAYOUT = KimageLayout(648)


def whole(kernel: Kernel) -> Whole:
    return Whole(kernel, LAYOUT, 4096)


def of_machine_kexec(kernel: Kernel) -> list[Obligation]:
    proof = MachineKexec(whole(kernel), decide, False, False)
    proof.prove()
    return proof.obligations


def of_post_load(kernel: Kernel, mmu_on: bool = True) -> list[Obligation]:
    proof = PostLoad(whole(kernel), decide, find_routine(kernel), False, mmu_on)
    proof.prove()
    return proof.obligations


def of_restart(kernel: Kernel) -> list[Obligation]:
    return of_restart_in(whole(kernel))


def of_restart_in(found: Whole) -> list[Obligation]:
    proof = SoftRestart(found, decide)
    proof.prove()
    return proof.obligations


def of_routine(kernel: Kernel, single_flags: bool = False) -> list[Obligation]:
    found = find_routine(kernel)
    code = Code(found.name, found.address, found.code)
    return relocation.build(code, recognise(code, 4096, LAYOUT), decide, single_flags)
