"""Functions, globals and objects of the kernel that the C code of kexec uses."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import State, unknown_ghosts, unknown_registers
from kexec_verify.errors import TargetError, UnsupportedError
from kexec_verify.kexec.branches import Branches
from kexec_verify.kexec.choices import Variant, sanitised_ctr
from kexec_verify.kexec.globals import Globals, find_globals
from kexec_verify.kexec.locate import Function, branches_out, calls_out, find_function
from kexec_verify.kexec.patch_sites import unknown
from kexec_verify.logic import And, Formula, Term, aligned, const, ule
from kexec_verify.specs.address_map import AddressMap, linear_map_end
from kexec_verify.specs.capabilities import HAS_MOPS
from kexec_verify.specs.contracts import contract, names_that_never_return
from kexec_verify.specs.hyp_stub import hyp_stub_below
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.machine_kexec import Fields
from kexec_verify.symbolic.cutpoints import cuts
from kexec_verify.symbolic.objects import LINEAR_MAP, SHADOW_CALL_STACK, STACK_FRAME, Object, Objects
from kexec_verify.target import Kernel
from kexec_verify.target.bugs import BUG_BRK_IMM, warnings

RESTART = ("cpu_soft_restart", "__cpu_soft_restart")
"""The restart code's names, over the kernel's versions; it never returns."""
FRAME_BYTES = 4096
"""More than any frame of kexec's code; a store further below SP is a refutation, not a frame."""
SHADOW_CALL_BYTES = 512
"""More than the return addresses that one of kexec's functions and those run as part of it push."""
IMAGE = "the image"
"""The name of the object that is the kernel's image; those of its unknown words begin with it."""
_PUSH = 0xF800_865E  # str x30, [x18], #8
_NONE: frozenset[int] = frozenset()
_CHECKS = ("__asan_load8_noabort", "__asan_report_load8_noabort", "__hwasan_load8_noabort")  # of KASAN
_TASK_BYTES = 16384
_LINEAR_MAP_BITS = (36, 39, 42, 47, 48, 52)
_COLD = ".cold"  # in the name of a part of a function that is elsewhere
_BRK = 0b11010100001
_MOST_RANGES = 16  # of one function
_SMALL_BYTES = 256  # of a callee without a contract that is run in place of its call
_CONSTANT_WORDS = ("arm64_relocate_new_kernel_size",)


@dataclass
class KexecContext:
    """One kernel's kexec code and what it uses.

    :param layout: of struct kimage.
    :param page_size: bytes.
    :param breaks: of the brk instructions looked at, whether each is a WARN; None if it is in no table.
    :param variant: the choices that are set in these bytes; None if none is.
    :param sanitised_ctr: address of the word that is read in place of CTR_EL0, if one is.
    :param linked: the context of the bytes without these choices.
    :ivar branches: direct branches and calls, as the kernel is linked.
    """

    kernel: Kernel
    layout: KimageLayout
    page_size: int
    globals: Globals = field(init=False)
    breaks: dict[int, bool | None] = field(default_factory=dict, repr=False)
    variant: Variant | None = None
    sanitised_ctr: int | None = None
    linked: KexecContext | None = field(default=None, repr=False)
    branches: Branches = field(init=False, repr=False)
    _code: dict[tuple[str, int | None], Code] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.globals = find_globals(self.kernel)
        self.branches = Branches(self.kernel)

    def where_set(self, variant: Variant) -> KexecContext:
        """Return this context with the instructions that stand there where the variant's choices are set."""
        found = copy.copy(self)
        found.linked = self
        found.kernel, found.variant, found._code = variant.applied(self.kernel), variant, {}
        found.sanitised_ctr = sanitised_ctr(self.kernel, variant)
        return found

    def sets(self, choice: str) -> bool:
        """Return whether the capability called *choice* is set in these bytes."""
        return self.variant is not None and choice in self.variant.choices

    def code(self, name: str, address: int | None = None) -> Code:
        """Return the function called ``name``, or its only clone, with its WARNs distinguished from its BUGs.

        :param address: its address, if known: several functions may have this name.
        :raises UnsupportedError: if the kernel has neither, or several clones.
        """
        key = name, address
        if key in self._code:
            return self._code[key]
        function = self._find(name) if address is None else find_function(self.kernel, name, address)
        self._code[key] = self._joined(name, [self._range(f) for f in self._ranges(function)])
        return self._code[key]

    def plain(self, name: str) -> Code:
        """Return a function by name, its own bytes alone: nothing is run as part of it.

        :raises UnsupportedError: if the kernel has no such function, or several clones of it.
        """
        code = self._range(self._find(name))
        return Code(code.name, code.address, code.data, warnings=self._resumed(code), unknown=code.unknown)

    def with_callees(self, function: str | int, apart: frozenset[str]) -> Code:
        """Return a function by name or first address, with its cold part and the small functions it calls.

        :param apart: names of functions without a contract that are no part of it.
        :raises UnsupportedError: if the kernel has no such function, or several clones of it.
        """
        if isinstance(function, str):
            found = self._find(function)
        else:
            symbol = self.kernel.symbol_before(function)
            assert symbol is not None
            found = find_function(self.kernel, symbol.name, function)
        return self._joined(found.name, [self._range(f) for f in self._ranges(found, apart)])

    def _joined(self, name: str, ranges: list[Code]) -> Code:
        """Return the function called ``name`` of which these are all ranges, its own first."""
        first, *others = ranges
        return Code(
            name, first.address, first.data, True, self._resumed(*ranges), self._final(),
            continuations=tuple(others), unknown=first.unknown, copies_memory=self.sets(HAS_MOPS),
        )  # fmt: skip

    def _resumed(self, *codes: Code) -> frozenset[int]:
        """The brk instructions of a function that it goes on after: its WARNs.

        :raises UnsupportedError: for one of which it is not known whether it is a BUG or a WARN.
        """
        words = {at: code.word(at) for code in codes for at in code.addresses}
        breaks = [at for at, word in words.items() if word >> 21 == _BRK]
        kinds = self._kinds(breaks)
        for at in breaks:
            # A WARN goes on: one that is taken for a BUG would lose the paths behind it.
            if at not in kinds and words[at] >> 5 & 0xFFFF == BUG_BRK_IMM:
                raise UnsupportedError("brk that is not known as a BUG or a WARN", at)
        return frozenset(at for at, warns in kinds.items() if warns)

    def _range(self, function: Function) -> Code:
        patched = unknown(self.kernel, function.address, function.end)
        return Code(function.name, function.address, function.code, calls=True, unknown=patched)

    def _ranges(self, function: Function, apart: frozenset[str] | None = None) -> list[Function]:
        """Return the function, and every function that is run as part of it.

        These are the functions that it branches to, such as its cold part, and the small functions without a
        contract that it calls. A function that has a contract is not part of it.

        :param apart: names of further functions that are not, nor is a large one that it branches to.
        """
        found, todo = [function], [function]
        while todo:
            piece = todo.pop()
            called = set(calls_out(piece))
            for target in [*branches_out(piece), *called]:
                known = any(other.address <= target < other.end for other in found)
                if known or target in self.restart or self._is_apart(target, apart):
                    continue
                further = self._function_at(target)
                may_be_large = target not in called and (apart is None or _COLD in (further or piece).name)
                if further is None or not (may_be_large or self._is_small(further, target, apart)):
                    continue
                if len(found) == _MOST_RANGES:
                    raise UnsupportedError(f"{function.name} that goes on in more than {_MOST_RANGES} places")
                found.append(further)
                todo.append(further)
        return found

    def _function_at(self, address: int) -> Function | None:
        """Return the function that holds ``address``; None if the kernel has no symbol or no bytes there."""
        symbol = self.kernel.symbol_before(address)
        if symbol is None:
            return None
        try:
            found = find_function(self.kernel, symbol.name, symbol.address)
        except TargetError:
            return None
        return found if found.address <= address < found.end else None

    def _is_small(
        self, function: Function, entry: int, apart: frozenset[str] | None, within: frozenset[int] = _NONE
    ) -> bool:
        """A callee that is run in place of its call: entered at its start, short, with loops that can be cut.

        Compilers outline inline functions so, at -Os above all, and static functions that have two callers.

        :param apart: see :meth:`_ranges`; if given, the callee must have no loop.
        :param within: addresses of the functions by which it is called: it must call none of them.
        """
        if entry != function.address or len(function.code) > _SMALL_BYTES:
            return False
        within |= {entry}
        for target in calls_out(function):
            if self._is_apart(target, apart):
                continue
            further = self._function_at(target)
            if further is None or target in within or not self._is_small(further, target, apart, within):
                return False
        try:
            found = cuts(Code(function.name, function.address, function.code, calls=True))
        except UnsupportedError:
            return False
        return apart is None or not found

    def _is_apart(self, address: int, apart: frozenset[str] | None) -> bool:
        names = self.kernel.symbols_at(address)
        return any(contract(name) is not None or name in (apart or ()) for name in names)

    def _kinds(self, breaks: list[int]) -> dict[int, bool]:
        """Return, for each brk instruction in the kernel's table, whether it is a WARN."""
        missing = [at for at in breaks if at not in self.breaks]
        if missing:
            self.breaks |= dict.fromkeys(missing) | warnings(self.kernel, missing)
        return {at: warns for at in breaks if (warns := self.breaks[at]) is not None}

    def _find(self, name: str) -> Function:
        """Return the function by its symbol or by its clone's (.constprop, .isra, .llvm), never a .cold
        part.
        """
        if self.kernel.symbol(name) is not None:
            return find_function(self.kernel, name)
        clones = [s.name for s in self.kernel.symbols if s.name.startswith(f"{name}.")]
        clones = [clone for clone in clones if _COLD not in clone]
        if len(clones) == 1:
            return find_function(self.kernel, clones[0])
        found = ", ".join(clones) if clones else "neither"
        raise UnsupportedError(
            f"kernel without {name}: looked for its symbol and for one clone, found {found}"
        )

    @cached_property
    def restart(self) -> frozenset[int]:
        """Return the addresses of the restart code, by which machine_kexec leaves the kernel."""
        return self._addresses(RESTART)

    def restart_address(self) -> int:
        """Return the address of the restart code.

        :raises UnsupportedError: if the kernel has none.
        """
        for name in RESTART:
            symbol = self.kernel.symbol(name)
            if symbol is not None:
                return symbol.address
        raise UnsupportedError(f"kernel without {' or '.join(RESTART)}")

    def _final(self) -> frozenset[int]:
        """Return the addresses of functions that never return."""
        return self.restart | self._addresses(names_that_never_return())

    def _addresses(self, names: Iterable[str]) -> frozenset[int]:
        symbols = [self.kernel.symbol(name) for name in names]
        return frozenset(symbol.address for symbol in symbols if symbol is not None)

    def entry(self, name: str, *further: Object) -> State:
        """Return the state in which the C function ``name`` is entered, with a kimage in x0."""
        registers = unknown_registers(name)
        return self._state(name, registers, (self.kimage(registers["x0"]), *further))

    def bare_entry(self, name: str, *further: Object) -> State:
        """Return the state in which a function is entered whose arguments are unknown."""
        return self._state(name, unknown_registers(name), further)

    def _state(self, tag: str, registers: dict[str, Term], further: tuple[Object, ...]) -> State:
        frame = Object(STACK_FRAME, registers["sp"], -FRAME_BYTES, 0)
        task = Object("the task", registers["sp_el0"], 0, _TASK_BYTES)
        own = [frame]
        if self.shadow_calls:
            own.append(Object(SHADOW_CALL_STACK, registers["x18"], 0, SHADOW_CALL_BYTES))
        memory = Objects((self.image, *own, task, *further), "entry")
        ghosts = unknown_ghosts(tag)
        state = State(registers, ghosts, memory, Lines(f"L@{tag}"), fetch=Lines(f"F@{tag}"))
        if not self.shadow_calls:
            return state
        room = And(aligned(registers["x18"], 8), ule(registers["x18"], const(-SHADOW_CALL_BYTES)))
        return state.assume(("shadow-call-stack", room))

    @cached_property
    def shadow_calls(self) -> bool:
        """Whether the kernel keeps return addresses on a shadow call stack, and so reserves x18.

        Then one of the functions that call others pushes x30 there.
        """
        for name in ("machine_kexec", "machine_kexec_post_load"):
            try:
                code = self.code(name)
            except UnsupportedError:
                continue
            if any(piece.word(at) == _PUSH for piece in code.pieces for at in piece.addresses):
                return True
        return False

    @property
    def image(self) -> Object:
        """Return the kernel's image as an object: its globals, and which of them never change."""
        known: dict[int, int] = {}
        for name in _CONSTANT_WORDS:
            symbol = self.kernel.symbol(name)
            if symbol is not None and self.kernel.mapped(symbol.address, 8):
                data = self.kernel.read(symbol.address, 8)
                known |= {symbol.address + i: byte for i, byte in enumerate(data)}
        return Object(IMAGE, None, self.globals.low, self.globals.high, known)

    def kimage(self, base: Term) -> Object:
        """Return struct kimage at ``base`` as an object."""
        return Object("kimage", base, 0, self.layout.size)

    @property
    def linear_map(self) -> Object:
        """Memory as the code sees it at an address that it computes from a physical one."""
        offset = self.page_offset
        end = linear_map_end(offset, self.page_size)
        return Object(LINEAR_MAP, None, offset, end, bits=offset)

    def field(self, state: State, kimage: Term, offset: int) -> Term:
        """Return the 64-bit field of struct kimage at ``offset`` in ``state``."""
        return state.memory.load(kimage + offset, 8)

    def fields(self, state: State, kimage: Term) -> Fields:
        """Return the fields of struct kimage at ``kimage``, as ``state`` has them."""
        at = self.layout
        if not at.has_arch:
            head, start = (self.field(state, kimage, offset) for offset in (at.head, at.start))
            return Fields(kimage, head, start, *(const(0) for _ in range(5)))
        offsets = (at.head, at.start, at.dtb_mem, at.kern_reloc, at.el2_vectors, at.ttbr0, at.t0sz)
        return Fields(kimage, *(self.field(state, kimage, offset) for offset in offsets))

    def word(self, state: State, name: str, size: int = 8, at: int = 0) -> Term:
        """Return the global called ``name``, as ``state`` has it.

        :raises UnsupportedError: if its address is not known.
        """
        if name not in self.globals:
            raise UnsupportedError(f"kernel in which {name} was not found")
        if name in self.globals.signed_words:
            return state.memory.load(const(self.globals[name] + at), 4).sign_extend(32)
        return state.memory.load(const(self.globals[name] + at), size)

    def stub_below(self, state: State) -> Formula:
        """The hyp stub is installed below the kernel, in ``state``."""
        mode = tuple(self.word(state, "__boot_cpu_mode", 4, at) for at in (0, 4))
        return hyp_stub_below((mode[0], mode[1]), state.registers["currentel"])

    def address_map(self, state: State) -> AddressMap:
        """Return the kernel's address map, with its words as ``state`` has them.

        :raises UnsupportedError: for a kernel with KASAN: its linear map ends where the shadow memory begins.
        """
        if any(self.kernel.symbol(name) is not None for name in _CHECKS):
            raise UnsupportedError("kernel with KASAN, whose linear map ends where its shadow memory begins")
        offset = self.page_offset
        end = linear_map_end(offset, self.page_size)
        voffset, memstart = self.word(state, "kimage_voffset"), self.word(state, "memstart_addr")
        return AddressMap(voffset, memstart, offset, end, self.globals.folds_ttbr)

    @cached_property
    def page_offset(self) -> int:
        """Return the linear map's first address, read off code that is not under proof if there is any.

        In a kernel without such code it is the bound that most instructions of post_load set on addresses.
        The run then says so.
        """
        known = self.globals.page_offset
        if known is not None:
            self.globals = self.globals.with_("PAGE_OFFSET", known, "code that sets addresses to be above it")
            return known
        votes: Counter[int] = Counter()
        candidates = {(1 << 64) - (1 << bits) for bits in _LINEAR_MAP_BITS}
        for name in ("machine_kexec_post_load", "machine_kexec"):
            code = self.code(name)
            for address in code.addresses:
                try:
                    instruction = code.at(address)
                except UnsupportedError:
                    continue
                if not instruction.text.startswith("orr ") or "zr" in instruction.text:
                    continue
                for operation in instruction.operations:
                    values = {v.offset for v in operation.inputs if v.space.name == "const" and v.size == 8}
                    votes.update(values & candidates)
        if not votes:
            raise UnsupportedError("machine_kexec_post_load without a constant address of the linear map")
        found = max(votes, key=lambda offset: (votes[offset], offset))
        self.globals = self.globals.with_("PAGE_OFFSET", found, "the functions under proof themselves")
        return found

    def where(self, address: int) -> str:
        """Return ``address`` as the kernel prints it, such as machine_kexec+0x200/0x214."""
        return self.kernel.where(address)
