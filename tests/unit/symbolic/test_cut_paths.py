"""Cutpoints, and what is found to hold there."""

import networkx
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import State, unknown_ghosts, unknown_registers
from kexec_verify.logic import application
from kexec_verify.prove.discharge import decide
from kexec_verify.symbolic.cut_paths import ENTRY, CutPaths, cutpoints
from kexec_verify.symbolic.heap import Heap, is_heap_word
from kexec_verify.symbolic.objects import STACK_FRAME, Object

AT = 0x1000
RET = 0xD65F03C0


def paths(*words: int) -> CutPaths:
    """The paths of a function made of these instructions."""
    registers = unknown_registers(ENTRY)
    memory = Heap((Object(STACK_FRAME, registers["sp"], -256, 0),), ENTRY)
    entry = State(registers, unknown_ghosts(ENTRY), memory, Lines("L"), fetch=Lines("F"))
    code = Code("f", AT, b"".join(word.to_bytes(4, "little") for word in words))

    def leave(step: Step) -> list[Step] | None:
        assert isinstance(step.then, Exit)
        return None

    found = CutPaths(code, entry, leave, lambda at, state: state, lambda word: False, 2)
    found.run()
    return found


def test_each_cycle_is_cut_also_one_with_two_ways_in() -> None:
    graph = networkx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 1), (2, 3), (3, 3)])
    cuts = cutpoints(graph, 0, frozenset())
    graph.remove_nodes_from(cuts)
    assert networkx.is_directed_acyclic_graph(graph)


def test_no_cutpoint_is_needless_but_the_joins() -> None:
    graph = networkx.DiGraph([(0, 1), (1, 2), (2, 1), (2, 0), (2, 3)])
    assert len(cutpoints(graph, 0, frozenset())) == 1
    assert 3 in cutpoints(graph, 0, frozenset({3}))


LOOP = (
    0xD2800101,  # mov x1, #8
    0xF9400002,  # ldr x2, [x0]      <- head
    0x91002000,  # add x0, x0, #8
    0xF1000463,  # subs x3, x3, #1
    0x54FFFFA1,  # b.ne head
    RET,
)


def test_a_constant_is_known_in_the_loop_and_what_changes_is_not() -> None:
    found = paths(*LOOP)
    (head,) = found.cuts
    state = found.starts[head]
    assert state.registers["x1"].op == "BVV"
    assert state.registers["x0"].op == "BVS"
    assert state.registers["x19"] is found.entry.registers["x19"]
    assert {"x1 = 0x8", "x19 = x19 on entry"} <= set(found.known_at(head))
    assert not [line for line in found.known_at(head) if line.startswith("x0 ")]


def test_what_is_taken_to_hold_is_owed_on_each_arrival() -> None:
    owed = paths(*LOOP).obligations("cut")
    assert owed
    assert all(decide(o.hypotheses, o.goal) for o in owed)


def test_a_constant_that_an_iteration_changes_is_not_taken_to_hold() -> None:
    changed = (*LOOP[:2], 0x91002021, *LOOP[3:])  # add x1, x1, #8
    found = paths(*changed)
    (head,) = found.cuts
    assert found.starts[head].registers["x1"].op != "BVV"
    assert all(decide(o.hypotheses, o.goal) for o in found.obligations("cut"))


def test_a_word_that_was_loaded_stays_one_after_the_heap_changed() -> None:
    found = paths(
        0xF9400002,  # ldr x2, [x0]
        0xF9000003,  # str x3, [x0]      <- head
        0xF1000463,  # subs x3, x3, #1
        0x54FFFFC1,  # b.ne head
        RET,
    )
    (head,) = found.cuts
    applied = application(found.starts[head].registers["x2"])
    assert applied is not None and is_heap_word(applied.function)


def test_of_a_word_that_was_loaded_no_value_follows() -> None:
    found = paths(0xF9400002, 0xF9000003, 0xF1000463, 0x54FFFFC1, RET)
    (head,) = found.cuts
    state = found.starts[head]
    now = state.memory.load(state.registers["x0"], 8)
    assert not decide(state.facts, state.registers["x2"] != 5)
    assert not decide((("", now == 0),), state.registers["x2"] == 0)
