"""The runs over lists: records of the words that a list must have, without a kernel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kexec_verify.kexec.list_code import ADD, BEGIN, TERMINATE, ListCode
from kexec_verify.logic import const
from kexec_verify.refute.functions import list_run
from kexec_verify.refute.functions.list_run import Expected, ListRun
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.image_builder import Pages
from kexec_verify.specs.kimage import KimageLayout

PAGE, OFFSET = 4096, 0xFFFF_0000_0000_0000
N = PAGE // 8
GIVEN = 0x4123_4008


class Unrun(ListRun):
    """A run whose instructions are left out."""

    def _go(self) -> None:
        self.inputs = cast(Any, SimpleNamespace(answers=()))

    def _fault(self) -> None:
        return None


def expected(name: str, length: int, given: bool = True) -> dict[str, Expected]:
    pages = Pages(AddressMap(const(0), const(0), OFFSET, OFFSET + (1 << 47)), PAGE, 0)
    context = SimpleNamespace(layout=KimageLayout(648))
    proof = cast(ListCode, SimpleNamespace(name=name, pages=pages, context=context))
    return {item.name: item for item in Unrun(proof, length, GIVEN, given)._expected()}


@pytest.mark.parametrize("length", [2, 3, N - 1, N + 2])
def test_a_word_is_added_where_there_is_room(length):
    found = expected(ADD, length)
    assert found[f"word {length}"].value == GIVEN
    assert found[f"word {length + 1}"].value == 0
    entry, last = found["kimage->entry"].value, found["kimage->last_entry"].value
    assert entry == found[f"word {length + 1}"].address and last == entry | PAGE - 8
    assert len(found) == length + 4


@pytest.mark.parametrize("length", [0, N, 2 * N])
def test_a_page_is_chained_where_the_last_one_is_full(length):
    found = expected(ADD, length)
    page = found[f"word {length + 1}"].address
    assert page % PAGE == 0 and found[f"word {length + 1}"].value == GIVEN
    assert found[f"word {length}"].value == list_run._MEMSTART + page - OFFSET | 2
    assert found[f"word {length + 2}"].value == 0
    assert found["kimage->entry"].value == page + 8
    assert len({item.address for item in found.values()}) == len(found)


@pytest.mark.parametrize("length", [0, N])
def test_without_a_page_nothing_is_added(length):
    found = expected(ADD, length, given=False)
    assert found[f"word {length}"].value == 0 and f"word {length + 1}" not in found
    assert found["kimage->entry"].value == found[f"word {length}"].address


def test_the_end_is_done():
    assert expected(TERMINATE, 3)["word 3"].value == 4
    assert expected(TERMINATE, 0)["word 0"].value == 4


def test_a_new_list_is_empty():
    found = expected(BEGIN, 0)
    assert found["word 0"].value == 0
    assert found["kimage->entry"].value == found["kimage->last_entry"].value == found["word 0"].address
    assert expected(BEGIN, 0, given=False) == {}
