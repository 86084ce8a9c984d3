"""Runs of trans_pgd_create_copy over small tables, which show what its copy has for each entry."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec.table_paths import modelled
from kexec_verify.kexec.tables import TableCopy
from kexec_verify.logic import var
from kexec_verify.prove.discharge import Result
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import model_z3
from kexec_verify.refute.functions.effects import Answer, Inputs
from kexec_verify.refute.functions.path_run import PAGE, Answering, PathRun
from kexec_verify.refute.functions.record import CallCounterexample, chosen, ending, executed, further, rerun
from kexec_verify.refute.functions.table_scenes import DATA, MEMSTART, Geometry, Scene, one_page, scenes
from kexec_verify.specs import page_tables as spec
from kexec_verify.specs.contracts import PAGE_TAKERS, contract

_LENGTH = 20_000  # instructions of a run
_TAKEN = 32  # the number of the first page that the allocator gives
_MOST_TAKEN = 16
_TAKES_PAGES, _BACK = 0xFFFF_FFF0_0000, 0xFFFF_FFF1_0000  # places of no code
_SYSTEM = {"currentel": 1 << 2, "ctr_el0": 0x8444_C004}
_BOOT = 0x00E8_0000_0000_0F03  # an entry of a page that boot maps, without its address; PTE_DIRTY is set
_EVERY_ENTRY = "each valid entry of the range has its entry in the copy, at its address"


def refute_copy(proof: TableCopy, result: Result, property_id: str) -> CallCounterexample | None:
    """Return a run that leaves the entry of a page read-only, or copies it wrongly; None if none is found.

    The page has the protection that boot gives it, and is read-only as set_memory_ro makes it, or is not.

    :raises InternalError: if a replay does not show it.
    """
    for source in _sources(proof, result):
        try:
            found = _CopyRun(proof, one_page(_geometry(proof), source))
        except UnsupportedError:
            continue
        for address in found.wrong:
            if found.copies[address]:
                return found.shown(address, result.obligation.sentence, property_id)
    return None


def refute_any_copy(proof: TableCopy, property_id: str) -> CallCounterexample | None:
    """Return a run that copies no entry, or another one, for an entry of the range; None if none is found.

    :raises InternalError: if a replay does not show it.
    :raises UnsupportedError: if no run is found, and one of those that were tried does not copy its tables.
    """
    unfinished = ""
    for scene in scenes(_geometry(proof), _BOOT):
        found = _CopyRun(proof, scene)
        for address in found.wrong:
            return found.shown(address, _EVERY_ENTRY, property_id)
        if not found.copies:
            unfinished = f"no run of {proof.code.name} was seen to copy {scene.start:#x} to {scene.end:#x}"
    if unfinished:
        raise UnsupportedError(unfinished)
    return None


def _geometry(proof: TableCopy) -> Geometry:
    page, linear = proof.context.page_size, proof.context.page_offset
    widest = {1 << 14: 47, 1 << 16: 52}.get(page, 48)
    bits = min(widest, (-linear % (1 << 64)).bit_length() - 1)
    return Geometry(page, bits, linear)


def _is_wrong(source: int, copy: int) -> bool:
    return bool(copy & spec.PTE_RDONLY or not copy & spec.PTE_AF or (source ^ copy) & ~spec.MAY_DIFFER)


def _sources(proof: TableCopy, result: Result) -> Iterator[int]:
    """Entries of a page: as boot makes them, and read-only."""
    protections = [_BOOT]
    failing = result.obligation
    value = proof.protections.given.get(id(failing)) if proof.protections is not None else None
    if value is not None:
        probe = ("the protection", var("the protection") == value)
        model = model_z3(script((*failing.hypotheses, probe), failing.goal), ["the protection"])
        protections = [] if model is None else [model["the protection"] | spec.PTE_TYPE_PAGE | spec.PTE_AF]
    for protection in protections:
        entry = protection | MEMSTART + DATA * proof.context.page_size
        yield entry & ~spec.PTE_DBM | spec.PTE_RDONLY
        yield entry & ~spec.PTE_RDONLY


class _CopyRun:
    """One run.

    :ivar copies: the entry that the copy has, by the address of each leaf of the scene; None if there is
        none. It is empty if the function does not return 0.
    :ivar places: where that entry is, if the copy has its table.
    """

    def __init__(self, proof: TableCopy, scene: Scene):
        self.proof, self.scene, self.at = proof, scene, scene.geometry
        self.copies: dict[int, int | None] = {}
        self.places: dict[int, int] = {}
        self._known = {proof.context.globals["memstart_addr"]: MEMSTART}
        info, result, stack, task, returns = (self.at.virtual(n) for n in (64, 65, 70, 72, 74))
        self.result = result
        registers = dict.fromkeys((*GENERAL, *FLAGS, *SYSTEM), 0) | _SYSTEM
        registers |= {"x0": info, "x1": result, "x2": scene.start, "x3": scene.end, "x30": _BACK}
        registers |= {"sp": stack, "sp_el0": task, "x18": returns, "tcr_el1": (64 - self.at.bits) << 16}
        self.top = self.at.virtual(0)
        memory = {info: _TAKES_PAGES, info + 8: info, _TAKES_PAGES - 8: self._type_hash << 32}
        self.inputs = Inputs(proof.code.address, registers, memory, (), (), _LENGTH)
        self.run = self._run()

    @property
    def _type_hash(self) -> int:
        """The word before the kernel's own allocator: kCFI has the hash of a function's type there."""
        kernel = self.proof.context.kernel
        known = [symbol.address for name in PAGE_TAKERS if (symbol := kernel.symbol(name)) is not None]
        words = [kernel.read(at - 4, 4) for at in known if kernel.mapped(at - 4, 4)]
        return int.from_bytes(words[0], "little") if words else 0

    @property
    def wrong(self) -> list[int]:
        """The addresses whose entry has no copy, or a wrong one."""
        leaves = self.scene.leaves
        return [a for a, copy in self.copies.items() if copy is None or _is_wrong(leaves[a], copy)]

    def _run(self) -> PathRun:
        """Run until it returns: each call takes a page, each word of the image that names tables is found."""
        pointers: dict[int, int] = {}
        while True:
            words = {**self.inputs.memory, **self.scene.memory(self.top), **self._known, **pointers}
            numbers = range(128)
            pages = {self.at.virtual(n) + at for n in numbers for at in range(0, self.at.page, PAGE)}
            pages |= {at & -PAGE for at in words} | {at & -PAGE for at in self._image_pages}
            given = Inputs(self.inputs.start, self.inputs.registers, words, tuple(sorted(pages)), (), _LENGTH)
            run = PathRun(self.proof.code, given, self._answering())
            run.run()
            given = msgspec.structs.replace(given, answers=tuple(run.answers))
            left = run.left
            context = self.proof.context
            new = {
                access.address: self.at.virtual(0)
                for access in run.accesses
                if access.kind == "load" and access.size == 8
                if context.globals.low <= access.address < context.globals.high
                if access.address not in words and access.value == 0
            }
            faults = left is not None and left.kind.startswith("fault")
            if faults and new and not pointers:
                pointers |= new
            elif self.top == self.at.virtual(0) and not self._reads(run) and (top := self._top_table(run)):
                self.top = top
            else:
                break
        self.inputs = given
        if left is not None and left.kind == "ret" and left.target == _BACK and self._reads(run):
            self._look(run)
        return run

    def _answering(self) -> Answering:
        """What answers the calls of one run: each call of the allocator takes the next page."""
        numbers = iter(range(_TAKEN, _TAKEN + _MOST_TAKEN))

        def answer(at: int, target: int) -> Answer | None:
            if target == _TAKES_PAGES:
                number = next(numbers, None)
                return None if number is None else Answer("page", at, {"x0": self.at.virtual(number)})
            names = self.proof.context.kernel.symbols_at(target)
            records = any(known.records for name in names if (known := contract(name)) is not None)
            return Answer("record", at, {}) if records else None

        return answer

    def _slot(self) -> int:
        return self.at.slot(self.scene.start, self.at.levels - 1)

    def _reads(self, run: PathRun) -> bool:
        """The run has read the first entry that the range has in the top table."""
        return any(a.kind == "load" and a.address == self.top + self._slot() for a in run.accesses)

    def _top_table(self, run: PathRun) -> int | None:
        """The table in the image of which the run has read the first entry of the range."""
        known = self.proof.context.globals
        read = {a.address - self._slot() for a in run.accesses if a.kind == "load" and a.value == 0}
        return min((at for at in read if known.low <= at < known.high and at % PAGE == 0), default=None)

    @property
    def _image_pages(self) -> set[int]:
        """The pages of the image that the code forms the addresses of, and the next ones."""
        code = self.proof.code
        places = (at for piece in code.pieces for at in piece.addresses)
        known = [code.at(at) for at in places if not modelled(code.word(at))]
        formed = [i.operations[0].inputs[0].offset for i in known if i.text.startswith(("adr ", "adrp "))]
        return {(int(at) & -PAGE) + further for at in formed for further in (0, PAGE)}

    def _look(self, run: PathRun) -> None:
        """Walk the copy for each leaf, if the function says that there is one."""
        if run.registers()["x0"] & 0xFFFF_FFFF:
            return
        top = run.read(self.result, 8) or 0
        for address in self.scene.leaves:
            table = self._table_of(run, top, address)
            if table is not None:
                self.places[address] = table + self.at.slot(address, self.scene.level)
            self.copies[address] = run.read(self.places[address], 8) or None if table is not None else None

    def _table_of(self, run: PathRun, top: int, address: int) -> int | None:
        """The table of the copy that has the leaf of ``address``; None if there is none."""
        table = top
        for level in reversed(range(self.scene.level + 1, self.at.levels)):
            entry = run.read(table + self.at.slot(address, level), 8) or 0
            if entry & spec.PTE_TYPE_PAGE != spec.PTE_TYPE_PAGE:
                return None
            table = (entry & (1 << 48) - self.at.page) - MEMSTART + self.at.linear
        return table

    def shown(self, address: int, sentence: str, property_id: str) -> CallCounterexample:
        """Return the record of the run, for the leaf at ``address``."""
        code, copy, place = self.proof.code, self.copies[address] or 0, self.places.get(address)
        source = self.scene.leaves[address]
        stores = [a.at for a in self.run.accesses if a.kind == "store" and a.address == place]
        at = stores[-1] if stores else self.run.trace[-1]
        names = {"PTE_DBM": spec.PTE_DBM, "PTE_RDONLY": spec.PTE_RDONLY, "PTE_DIRTY": spec.PTE_DIRTY}
        told = [", ".join(n for n, bit in names.items() if e & bit) or "none" for e in (source, copy)]
        entry = f"{code.where(at)}: the entry {source:#x} ({told[0]})"
        if copy:
            effect = f"{entry} is copied as {copy:#x} ({told[1]}): a "
        else:
            effect = f"{entry} of the address {address:#x} has no entry in the copy: a "
        effect += "store to this page by the relocation routine faults"
        found = CallCounterexample(
            function=code.name,
            property=property_id,
            obligation=sentence,
            inputs={"source PTE": f"{source:#x}", "copied PTE": f"{copy:#x}"},
            expected="a writable entry with the source's output address and attributes",
            found=f"{copy:#x}",
            effect=effect,
            at=at,
            where=code.where(at),
            steps=executed(code, self.run, self.proof.context.kernel.called),
            code=(code.address, len(code.data)),
            further=further(code),
            resumed=tuple(sorted(code.warnings)),
            given=self.inputs,
            ending=ending(
                self.run, {place + i: copy >> 8 * i & 0xFF for i in range(8)} if place is not None else {}
            ),
            **chosen(self.proof.context),
        )
        if rerun(found.as_dict(), self.proof.context.kernel.read) != found:
            raise InternalError(f"the record of {property_id} is not what was run")
        return found
