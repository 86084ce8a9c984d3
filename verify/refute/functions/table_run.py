"""A run of trans_pgd_create_copy over tables with one page, which shows how it copies that page's entry."""

from __future__ import annotations

from collections.abc import Iterator

from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec.table_paths import modelled
from kexec_verify.kexec.tables import TableCopy
from kexec_verify.logic import var
from kexec_verify.prove.discharge import Result
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import model_z3
from kexec_verify.refute.functions.effects import Answer, Inputs
from kexec_verify.refute.functions.path_run import PAGE, PathRun
from kexec_verify.refute.functions.record import CallCounterexample, ending, executed, rerun
from kexec_verify.specs import page_tables as spec

_LENGTH = 20_000  # instructions of a run
_MEMSTART = 0x4000_0000
_TAKES_PAGES, _BACK = 0xFFFF_FFF0_0000, 0xFFFF_FFF1_0000  # places of no code
_SYSTEM = {"currentel": 1 << 2, "ctr_el0": 0x8444_C004}


def refute_copy(proof: TableCopy, result: Result, property_id: str) -> CallCounterexample | None:
    """Return a run that leaves the entry of a page read-only, or copies it wrongly; None if none is found.

    The page has the protection that boot gives it, and is read-only as set_memory_ro makes it, or is not.

    :raises InternalError: if a replay does not show it.
    """
    for source in _sources(proof, result):
        try:
            found = _CopyRun(proof, source)
        except UnsupportedError:
            continue
        if found.copy is not None and _is_wrong(source, found.copy):
            return found.shown(result, property_id)
    return None


def _is_wrong(source: int, copy: int) -> bool:
    return bool(copy & spec.PTE_RDONLY or not copy & spec.PTE_AF or (source ^ copy) & ~spec.MAY_DIFFER)


def _sources(proof: TableCopy, result: Result) -> Iterator[int]:
    """Entries of a page: as boot makes them, and read-only."""
    protections = [0x00E8_0000_0000_0F03]
    failing = result.obligation
    value = proof.protections.given.get(id(failing)) if proof.protections is not None else None
    if value is not None:
        probe = ("the protection", var("the protection") == value)
        model = model_z3(script((*failing.hypotheses, probe), failing.goal), ["the protection"])
        protections = [] if model is None else [model["the protection"] | spec.PTE_TYPE_PAGE | spec.PTE_AF]
    for protection in protections:
        entry = protection | _MEMSTART + 0x80 * proof.context.page_size
        yield entry & ~spec.PTE_DBM | spec.PTE_RDONLY
        yield entry & ~spec.PTE_RDONLY


class _CopyRun:
    """One finished run.

    :ivar copy: the entry that the copy has for the page; None if there is no copy.
    """

    def __init__(self, proof: TableCopy, source: int):
        self.proof, self.source, self.place = proof, source, 0
        self.copy: int | None = None
        context = proof.context
        self.page, self.linear = context.page_size, context.page_offset
        shift = self.page.bit_length() - 1
        bits = 47 if self.page == 1 << 14 else min(48, (-self.linear % (1 << 64)).bit_length() - 1)
        self.levels = -(-(bits - shift) // (shift - 3))
        self._known = {context.globals["memstart_addr"]: _MEMSTART}
        info, result, stack = (self._virtual(n) for n in (64, 65, 70))
        start = -(1 << bits) % (1 << 64)
        self.result = result
        registers = dict.fromkeys((*GENERAL, *FLAGS, *SYSTEM), 0) | _SYSTEM
        registers |= {"x0": info, "x1": result, "x2": start, "x3": start + self.page, "x30": _BACK}
        registers |= {"sp": stack, "sp_el0": self._virtual(72), "tcr_el1": (64 - bits) << 16}
        memory = {info: _TAKES_PAGES, info + 8: 0, **self._tables(source)}
        self.inputs = Inputs(proof.code.address, registers, memory, (), (), _LENGTH)
        self.run = self._run()

    def _virtual(self, number: int) -> int:
        """Where the linear map shows the page of that number."""
        return self.linear + number * self.page

    def _tables(self, source: int) -> dict[int, int]:
        """The kernel's tables: one entry at each level, from the top at page 0."""
        physical = (_MEMSTART + n * self.page for n in range(1, self.levels))
        entries = [*(at | spec.PTE_TYPE_PAGE for at in physical), source]
        return {self._virtual(n): entry for n, entry in enumerate(entries)}

    def _run(self) -> PathRun:
        """Run until it returns: each call takes a page, each word of the image that names tables is found."""
        answers: list[Answer] = []
        pointers: dict[int, int] = {}
        while True:
            words = {**self.inputs.memory, **self._known, **pointers}
            numbers = range(128)
            pages = {self._virtual(n) + at for n in numbers for at in range(0, self.page, PAGE)}
            pages |= {at & -PAGE for at in words} | {at & -PAGE for at in self._image_pages}
            given = Inputs(
                self.inputs.start, self.inputs.registers, words, tuple(sorted(pages)), tuple(answers), _LENGTH
            )
            run = PathRun(self.proof.code, given)
            run.run()
            left = run.left
            context = self.proof.context
            new = {
                access.address: self._virtual(0)
                for access in run.accesses
                if access.kind == "load" and access.size == 8
                if context.globals.low <= access.address < context.globals.high
                if access.address not in words and access.value == 0
            }
            faults = left is not None and left.kind.startswith("fault")
            if left is not None and left.kind == "call" and left.target == _TAKES_PAGES and len(answers) < 8:
                answers.append(Answer("page", left.at, {"x0": self._virtual(32 + len(answers))}))
            elif faults and new and not pointers:
                pointers |= new
            else:
                break
        self.inputs = given
        if left is not None and left.kind == "ret" and left.target == _BACK:
            self._look(run)
        return run

    @property
    def _image_pages(self) -> set[int]:
        """The pages of the image that the code forms the addresses of, and the next ones."""
        code = self.proof.code
        known = [code.at(at) for at in code.addresses if not modelled(code.word(at))]
        formed = [int(i.operations[0].inputs[0].offset) for i in known if i.text.startswith("adrp ")]
        return {at + further for at in formed for further in (0, PAGE)}

    def _look(self, run: PathRun) -> None:
        """Walk the copy."""
        at = run.read(self.result, 8) or 0
        for _ in range(self.levels - 1):
            entry = run.read(at, 8) or 0
            if entry & spec.PTE_TYPE_PAGE != spec.PTE_TYPE_PAGE:
                return
            at = (entry & (1 << 48) - self.page) - _MEMSTART + self.linear
        self.place, self.copy = at, run.read(at, 8)

    def shown(self, result: Result, property_id: str) -> CallCounterexample:
        """Return the record of the run."""
        code, copy = self.proof.code, self.copy or 0
        stores = [a.at for a in self.run.accesses if a.kind == "store" and a.address == self.place]
        at = stores[-1] if stores else self.run.trace[-1]
        names = {"PTE_DBM": spec.PTE_DBM, "PTE_RDONLY": spec.PTE_RDONLY, "PTE_DIRTY": spec.PTE_DIRTY}
        told = [", ".join(n for n, bit in names.items() if e & bit) or "none" for e in (self.source, copy)]
        effect = (
            f"{code.where(at)}: the entry {self.source:#x} ({told[0]}) is copied as {copy:#x} ({told[1]}): a "
            "store to this page by the relocation routine faults"
        )
        found = CallCounterexample(
            function=code.name,
            property=property_id,
            obligation=result.obligation.sentence,
            inputs={"source PTE": f"{self.source:#x}", "copied PTE": f"{copy:#x}"},
            expected="a writable entry with the source's output address and attributes",
            found=f"{copy:#x}",
            effect=effect,
            at=at,
            where=code.where(at),
            steps=executed(code, self.run, self.proof.context.kernel.called),
            code=(code.address, len(code.data)),
            resumed=tuple(sorted(code.warnings)),
            given=self.inputs,
            ending=ending(self.run, {self.place + i: copy >> 8 * i & 0xFF for i in range(8)}),
        )
        if rerun(found.as_dict(), self.proof.context.kernel.read) != found:
            raise InternalError(f"the record of {property_id} is not what was run")
        return found
