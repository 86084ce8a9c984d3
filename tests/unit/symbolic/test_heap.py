"""Memory beside the objects."""

from kexec_verify.logic import const, same, var
from kexec_verify.symbolic.heap import HEAP, Heap, heap_of
from kexec_verify.symbolic.objects import STACK_FRAME, Object

SP, POINTER, OTHER = var("sp"), var("p"), var("q")


def memory() -> Heap:
    return Heap((Object("the image", None, 0x1000, 0x2000), Object(STACK_FRAME, SP, -256, 0)))


def test_an_address_of_no_object_is_the_heaps() -> None:
    found = memory()
    assert found.find(POINTER)[0] is HEAP
    assert found.find(SP - 8)[0].name == STACK_FRAME
    assert found.find(const(0x1800))[0].name == "the image"


def test_a_word_that_was_stored_is_loaded_again() -> None:
    changed = memory().store(POINTER, var("v"))
    assert same(changed.load(POINTER, 8), var("v"))
    assert same(changed.load(POINTER + 8, 8), memory().load(POINTER + 8, 8))


def test_another_pointer_may_point_to_the_same_word() -> None:
    changed = memory().store(POINTER, var("v"))
    loaded = changed.load(OTHER, 8)
    assert {"v", "p", "q"} <= set(loaded.variables)


def test_a_store_to_the_heap_leaves_the_frame_alone() -> None:
    before = memory().store(SP - 8, var("kept"))
    assert same(before.store(POINTER, var("v")).load(SP - 8, 8), var("kept"))


def test_a_store_of_a_part_makes_every_word_unknown() -> None:
    changed = memory().store(POINTER, var("v")).store(OTHER, var("part", 32))
    assert not same(changed.load(POINTER, 8), var("v"))
    assert not same(changed.load(POINTER + 64, 8), memory().load(POINTER + 64, 8))


def test_two_loads_of_a_part_are_two_values() -> None:
    assert not same(memory().load(POINTER, 4), memory().load(POINTER, 4))


def test_a_store_at_an_unknown_offset_of_the_frame_makes_the_frame_unknown() -> None:
    before = memory().store(SP - 8, var("lost"))
    changed = before.store(SP - 64 + var("index"), var("v", 32))
    assert not same(changed.load(SP - 8, 8), var("lost"))


def test_code_that_is_not_looked_at_changes_all_but_the_frame() -> None:
    before = heap_of(
        memory().store(POINTER, var("v")).store(SP - 8, var("kept")).store(SP - 64, var("local"))
    )
    after = before.forgetting("call")
    assert same(after.load(SP - 8, 8), var("kept"))
    assert not same(after.load(POINTER, 8), var("v"))
    assert not same(after.load(const(0x1800), 8), before.load(const(0x1800), 8))


def test_code_that_is_given_a_local_may_store_to_it_and_above() -> None:
    before = heap_of(memory().store(SP - 64, var("local")).store(SP - 128, var("below")))
    after = before.forgetting("call", -64)
    assert same(after.load(SP - 128, 8), var("below"))
    assert not same(after.load(SP - 64, 8), var("local"))
