"""Check in plain integers that concrete runs of a callee satisfy its contract."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, product

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import GENERAL, SYSTEM, UNSYNCED
from kexec_verify.arm64.system import FREE
from kexec_verify.errors import InternalError
from kexec_verify.kexec.calls import POINTED_BYTES, may_change
from kexec_verify.kexec.choices import protects_guests
from kexec_verify.kexec.context import FRAME_BYTES, SHADOW_CALL_BYTES, KexecContext
from kexec_verify.logic import const, constant
from kexec_verify.obligation import Obligation
from kexec_verify.refute import ghost as plain
from kexec_verify.refute.functions.contract_run import LIMIT, ContractRun, Range, entered, varied
from kexec_verify.refute.functions.effects import Happened, Inputs
from kexec_verify.refute.functions.layout import CLEAR_OF_OBJECTS, MM_STRUCT, base
from kexec_verify.refute.functions.path_run import PAGE, PathRun
from kexec_verify.refute.functions.record import CallCounterexample, chosen, ending, executed, further, rerun
from kexec_verify.refute.functions.values import usual
from kexec_verify.specs.contracts import Contract
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME
from kexec_verify.target import Kernel

_CTR = (0x8444_C004, 0x8442_C003, 0x8445_C005, 0x8454_C004)
"""CTR_EL0: lines of 64 and 64, 16 and 32, 128 and 128 bytes, and an ERG that is no line."""
_SANITISED_CTR = 0x8442_C003
"""What the kernel reads in place of each: lines of 16 and 32 bytes, which are in none of them longer."""
_RANGES = ((0, PAGE), (24, 200), (PAGE - 8, 8), (0x7F8, 0x88), (0x78, 16), (PAGE + 24, 200))
"""Of two pages, offsets and bytes; the last line of the fifth is missed by steps from its start."""
_MODES = (0xE11_0000_0E11, 0xE12_0000_0E12, 0xE11_0000_0E12, 0xE12_0000_0E11, 0xE13_0000_0E13)
_BOTH_EL2 = _MODES[1]
_LEVELS = (1 << 2, 2 << 2)  # CurrentEL at EL1, and at EL2
_TABLES = (0x4140_0000, 0x5_4152_7000, 0xFEDC_BA98_7000)
_CONTEXTS = (0, 0xA5C3)
"""What each word of an mm_struct is; the ASID is the low bits of one."""
_SPOKEN = ("x0", "x1", "x2", "ctr_el0", "currentel")
"""Registers at entry that a counterexample shows, if their value is unusual."""
_FETCH_STATES = ("fetchable", "invalidated, not completed by a DSB", "possibly stale")
_MM_BYTES = 1 << 12  # more than an mm_struct has


def runs(
    context: KexecContext, contract: Contract, code: Code, copies: Iterable[Range], unusual: bool = False
) -> Iterator[ContractRun]:
    """Yield finished runs of ``code`` from entries that its contract allows.

    :param copies: start and length in bytes of the copies that it must make.
    :param unusual: with several values in each register that holds no argument.
    :raises UnsupportedError: if a run comes to an instruction without a model.
    """
    for inputs, regions, dirty in _cases(context, contract, code, copies):
        for given in varied(inputs) if unusual else (inputs,):
            allowed = _maintainable(contract, given.registers)
            run = ContractRun(code, given, context, regions, dirty, allowed)
            run.run()
            yield run


def runs_from(
    context: KexecContext, contract: Contract, code: Code, found: Iterable[Inputs]
) -> Iterator[ContractRun]:
    """Yield finished runs from inputs of runs along paths, with several values in each unused register.

    For a callee that is given a range there are none: its length may be anything there.

    :raises UnsupportedError: if a run comes to an instruction without a model.
    """
    for inputs in found if contract.cleans is None and contract.fetches is None else ():
        for given in varied(msgspec.structs.replace(inputs, length=LIMIT, answers=())):
            allowed = _maintainable(contract, given.registers)
            run = ContractRun(code, given, context, _regions(context, contract), set(), allowed)
            run.run()
            yield run


def breach(
    context: KexecContext,
    contract: Contract,
    code: Code,
    copies: Iterable[Range],
    found: Iterable[Inputs] = (),
) -> str | None:
    """Return how a run of ``code`` breaks its contract; None if no tried run does.

    :param copies: start and length in bytes of the copies that it is asked for.
    :param found: inputs of runs along paths.
    :raises UnsupportedError: if runs come to an instruction without a model.
    """
    every = chain(runs(context, contract, code, copies, True), runs_from(context, contract, code, found))
    for run in every:
        fault = broken(run, contract)
        if fault is not None:
            return f"{code.name}: {fault}"
    return None


def shown(
    run: ContractRun, kernel: Kernel, fault: str, obligation: Obligation, property_id: str
) -> CallCounterexample | None:
    """Return the record of a run that breaks its contract; None if it made a call, because it has no replay.

    A run that calls EL2 is shown up to the call, and only for the obligation that forbids this effect.

    :param fault: what it broke.
    :raises InternalError: if a replay does not show it.
    """
    if run.called:
        return None
    code, given = run.code, run.replayable()
    ended: PathRun = run
    if any(event.name == "CallHyperVisor" for event in run.events):
        ended = PathRun(code, given)  # without an answer it ends at the HVC
        ended.run()
        if not obligation.fault or obligation.at != ended.trace[-1]:
            return None
        fault = obligation.fault
    at = ended.trace[-1]
    expected, _, found_instead = fault.removeprefix("expected ").partition(", found ")
    spoken = [n for n in _SPOKEN if n == "ctr_el0" or given.registers[n] != usual(f"{n}@")]
    found = CallCounterexample(
        function=code.name,
        property=property_id,
        obligation=obligation.sentence,
        inputs={name: f"{given.registers[name]:#x}" for name in spoken},
        expected=expected if found_instead else obligation.sentence,
        found=found_instead or fault,
        effect=f"{code.where(at)}: {fault}",
        at=at,
        where=code.where(at),
        steps=executed(code, ended, kernel.called),
        code=(code.address, len(code.data)),
        further=further(code),
        resumed=tuple(sorted(code.warnings)),
        given=given,
        ending=ending(ended, {}),
        **chosen(run.context),
    )
    if rerun(found.as_dict(), kernel.read) != found:
        raise InternalError(f"the record of {property_id} is not what was run")
    return found


def broken(run: ContractRun, contract: Contract) -> str | None:
    """Return how a finished run breaks the contract; None if it does not, or if that is undecided."""
    return None if run.undecided else next(_breaches(run, contract), None)


def _cases(
    context: KexecContext, contract: Contract, code: Code, copies: Iterable[Range]
) -> Iterator[tuple[Inputs, list[Range], set[int]]]:
    page = context.page_offset + CLEAR_OF_OBJECTS
    sp = base(context, STACK_FRAME)
    frame = (sp - FRAME_BYTES, sp)
    mode = context.globals.addresses.get("__boot_cpu_mode")
    if contract.copies is not None:
        for start, length in copies:
            source = {
                at: int.from_bytes(context.kernel.read(at, 8), "little")
                for at in range(start & -8, start + length, 8)
            }
            given = {"x0": page, "x1": start, "x2": length, "sp": sp}
            yield (
                entered(code, code.address, given, source),
                [frame, (start & -PAGE, start + length), (page, page + PAGE)],
                set(),
            )
        return
    if contract.cleans is not None or contract.fetches is not None:
        for ctr in _CTR:
            for offset, length in _RANGES:
                start = page + offset
                given = {"x0": start, "x1": start + length, "sp": sp, "ctr_el0": ctr}
                sized = _by_length(contract, start)
                if sized:
                    given["x1"] = length
                dirty = {start & -PAGE} if contract.cleans is not None else set()
                word = context.sanitised_ctr
                regions = [frame] if word is None else [frame, (word, word + 8)]
                memory = {} if word is None else {word: _SANITISED_CTR}
                yield entered(code, code.address, given, memory), regions, dirty
        return
    pointed, regions = base(context, MM_STRUCT), _regions(context, contract)
    guarded = context.variant is not None and protects_guests(context.variant.choices)
    for level, word, table, filler in product(_LEVELS, _MODES, _TABLES, _CONTEXTS):
        if guarded and (level, word) != (_LEVELS[0], _BOTH_EL2):
            continue  # protected KVM runs on no other machine
        memory = {mode: word} if mode is not None else {}
        memory |= dict.fromkeys(range(pointed, pointed + _MM_BYTES, 8), filler) if contract.points else {}
        given = dict.fromkeys(contract.points, pointed) | {"sp": sp, "currentel": level, "x0": table}
        given["x18"] = base(context, SHADOW_CALL_STACK)
        yield entered(code, code.address, given, memory), regions, set()


def _regions(context: KexecContext, contract: Contract) -> list[Range]:
    """Return the frame, the shadow call stack, the image, and what the callee is given a pointer to."""
    sp, pointed = base(context, STACK_FRAME), base(context, MM_STRUCT)
    found = [(sp - FRAME_BYTES, sp), _shadow(context), (context.globals.low, context.globals.high)]
    return [*found, (pointed, pointed + POINTED_BYTES)] if contract.points else found


def _shadow(context: KexecContext) -> Range:
    """What a callee may push of a shadow call stack; nothing in a kernel without one."""
    start = base(context, SHADOW_CALL_STACK)
    return start, start + (SHADOW_CALL_BYTES if context.shadow_calls else 0)


def _by_length(contract: Contract, start: int) -> bool:
    """Return whether the range is given as a start and a length."""
    ask = contract.cleans or contract.fetches
    assert ask is not None
    return constant(ask({"x0": const(start), "x1": const(8)})[1]) == start + 8


def _breaches(run: ContractRun, contract: Contract) -> Iterator[str]:
    before, after, left, where = run.inputs.registers, run.registers(), run.left, run.code.where
    assert left is not None
    if run.misplaced:
        yield run.misplaced
        return
    yield from _unmapped(run)
    for event in run.events:
        fault = _forbidden(run, contract, event)
        if fault is not None:
            yield fault
            return
    if left.kind != "ret" or left.target != before["x30"]:
        found = f"{left.kind} at {where(left.at)} to {left.target:#x}"
        yield f"expected a return to its caller, found {found}"
        return
    for name in (*GENERAL, "sp", *SYSTEM):
        if (
            name not in may_change(run.context)
            and name not in contract.changes
            and before[name] != after[name]
        ):
            yield f"expected {name} unchanged at {before[name]:#x}, found {after[name]:#x}"
    yield from _memory(run, contract)
    yield from _maintenance(run, contract)
    awaiting = {name: getattr(run.ghost, name) for name in UNSYNCED.values()}
    states = {"unsynced": run.ghost.unsynced, "translation": run.ghost.translation, **awaiting}
    were = {"unsynced": 1, "translation": plain.SETTLED, **dict.fromkeys(awaiting, 1)}
    for ghost, value in states.items():
        better = ghost == "unsynced" and value == 0
        if ghost not in contract.changes and value != were[ghost] and ghost not in awaiting and not better:
            yield f"expected no context change, found {ghost} = {value}"
    if contract.ensures is not None:
        x, y = run.terms({**before, **were}), run.terms({**after, **states})
        if contract.ensures(x, y).is_false():
            yield f"expected: {contract.sentence} Found ttbr0_el1 = {after['ttbr0_el1']:#x}"
    if contract.answers_stub and after["x0"] & 0xFF != int(run.stub_below()):
        yield f"expected {int(run.stub_below())} in the low byte of w0, found {after['x0'] & 0xFF}"
    asked = [event.registers for event in run.events if event.name == "CallHyperVisor"]
    if contract.asks is None and asked:
        yield "expected no HVC, found an HVC"
    elif contract.asks is not None:
        wanted = [
            number if isinstance(number, int) else constant(number)
            for number in contract.asks(run.terms(before))
        ]
        if [[x["x0"], x["x1"]] for x in asked] != [wanted]:
            yield f"expected one HVC with x0 and x1 {wanted}, found {[[x['x0'], x['x1']] for x in asked]}"


def _forbidden(run: ContractRun, contract: Contract, event: Happened) -> str | None:
    """Describe an effect that no rule of the contract allows; return None if a rule allows it."""
    if event.name in FREE or event.name in ("call", "warn"):
        return None
    rules = [rule for rule in contract.effects if rule.effect == event.name]
    entry, before = run.terms(run.inputs.registers), run.terms(event.registers)
    operands = (const(event.operand),)
    if rules and rules[0].holds(entry, before, operands).is_true():
        return None
    allowed = f"an effect that {rules[0].sentence}" if rules else "no such effect"
    return f"expected {allowed}, found {event.name} at {run.code.where(event.at)}"


def _memory(run: ContractRun, contract: Contract) -> Iterator[str]:
    sp, x = run.inputs.registers["sp"], run.inputs.registers
    ranges = [(sp - FRAME_BYTES, sp), _shadow(run.context)]
    if contract.copies is not None:
        ranges.append((x["x0"], x["x0"] + PAGE))
    for access in run.accesses:
        inside = any(start <= access.address and access.address + access.size <= end for start, end in ranges)
        if access.kind == "store" and not inside:
            yield f"{run.code.where(access.at)} stores to {access.address:#x}, which is not its own memory"
    if contract.copies is not None:
        data = run.context.kernel.read(x["x1"], x["x2"])
        found = [run.read(x["x0"] + i, 1) for i in range(len(data))]
        if found != list(data):
            yield f"expected {len(data)} bytes copied, found other bytes"
        beyond = [at for at, stored in run.stored if at + len(stored) > x["x0"] + len(data) and at >= x["x0"]]
        if beyond and beyond[0] < x["x0"] + PAGE:
            yield f"expected {len(data)} bytes written, found more at {beyond[0]:#x}"


def _unmapped(run: ContractRun) -> Iterator[str]:
    """Yield maintenance by address of pages that may be unmapped."""
    for at, address in run.maintained:
        if not run.may_maintain(address):
            where = run.code.where(at)
            yield f"the cache maintenance at {where} goes to {address:#x}, which may not be mapped"
            return


def _maintainable(contract: Contract, registers: dict[str, int]) -> list[Range]:
    """Return the ranges in whose pages a callee may maintain cache lines."""
    x = {name: const(registers[name]) for name in ("x0", "x1")}
    asks = [ask(x) for ask in (contract.cleans, contract.fetches) if ask is not None]
    ranges = [(int(constant(start) or 0), int(constant(end) or 0)) for start, end in asks]
    return [(start & -PAGE, max(end, (start & -PAGE) + PAGE)) for start, end in ranges]


def _maintenance(run: ContractRun, contract: Contract) -> Iterator[str]:
    x = {name: const(run.inputs.registers[name]) for name in ("x0", "x1")}
    for promised, line, states in (
        (contract.cleans, run.ghost.line, plain.LINE_STATES),
        (contract.fetches, run.fetch_state, _FETCH_STATES),
    ):
        if promised is not None:
            start, end = (int(constant(term) or 0) for term in promised(x))
            for word in range(-(-start // 8) * 8, end, 8):
                if line(word) != plain.CLEAN:
                    yield f"expected the word at {word:#x} to be {states[0]}, found {states[line(word)]}"
                    return
    lost = [word for word, state in run.ghost.lines.items() if state == plain.LOST]
    if lost:
        yield f"the word at {lost[0]:#x} is lost"
