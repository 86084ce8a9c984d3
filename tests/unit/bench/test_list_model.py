"""The C model that cbmc is asked about is the list machine of specs/relocate_kernel.py."""

import random
import subprocess

import pytest
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE
from kexec_verify.specs.relocate_kernel import Kind, ListMachine, done, is_kind

from bench.harness import ROOT

PAGE, RAM_PAGES = 64, 24
WORDS = PAGE // 8
MODEL = ROOT / "bench" / "list_model.c"


class Words:
    """Memory as a list of words, as the list machine wants it."""

    def __init__(self, words):
        self.words = list(words)

    def read(self, address):
        return self.words[address // 8]

    def copy(self, dest, source, length):
        words = list(self.words)
        for i in range(length // 8):
            words[dest // 8 + i] = words[source // 8 + i]
        return Words(words)


def by_the_machine(words):
    machine = ListMachine(IND_INDIRECTION, 0, 0, Words(words), PAGE, 0)
    while True:
        machine = machine.iteration(next(kind for kind in Kind if is_kind(machine.entry, kind)))
        if done(machine.entry):
            return machine.memory.words


# Reads memory, runs the model, writes memory.
DRIVER = """
#include <stdio.h>
#include "model.c"
int main(void)
{
	if (fread(ram, sizeof(ram), 1, stdin) != 1)
		return 2;
	relocate(INDIRECTION);
	return fwrite(ram, sizeof(ram), 1, stdout) != 1;
}
"""


@pytest.fixture
def relocate(tmp_path, require_tool):
    """A function from the model's source to a function from memory to memory; None where that crashes."""
    require_tool("gcc", "gcc")

    def build(source):
        (tmp_path / "model.c").write_text(source)
        (tmp_path / "driver.c").write_text(DRIVER)
        defines = [f"-DPAGE_SIZE={PAGE}", f"-DRAM_PAGES={RAM_PAGES}"]
        command = ["gcc", "-Wall", "-Wextra", "-Werror", *defines, "-o", "driver", "driver.c"]
        subprocess.run(command, cwd=tmp_path, check=True)

        def run(words):
            given = b"".join(word.to_bytes(8, "little") for word in words)
            done = subprocess.run([tmp_path / "driver"], input=given, capture_output=True, timeout=60)
            if done.returncode:
                return None
            return [int.from_bytes(done.stdout[i : i + 8], "little") for i in range(0, len(given), 8)]

        return run

    return build


def made_up(numbers):
    """A list of small pages that ends, well-formed or not, and the memory it stands in."""
    words = [numbers.getrandbits(64) for _ in range(RAM_PAGES * WORDS)]
    pages = [0, *numbers.sample(range(1, 4), 3)]
    at = [(page * WORDS + slot) for page in pages for slot in range(WORDS)]
    entries = []
    for _ in range(numbers.randint(0, 12)):
        flags = numbers.choice((IND_SOURCE, IND_SOURCE, IND_DESTINATION, 0, IND_SOURCE | IND_DESTINATION))
        # Destinations far enough from the end for all pages to come, and behind the list.
        page = numbers.randrange(4, RAM_PAGES - 13)
        entries.append(page * PAGE | flags | numbers.choice((0, 0x10, 0x30)))
    place = iter(at)
    first = numbers.randrange(4, RAM_PAGES - 13) * PAGE | IND_DESTINATION
    for entry in [first, *entries]:
        slot = next(place)
        if slot % WORDS == WORDS - 1:
            full, slot = slot, next(place)
            words[full] = slot * 8 | IND_INDIRECTION
        words[slot] = entry
    words[next(place)] = IND_DONE
    return words


def disagreements(run, count):
    numbers = random.Random(6)
    found = 0
    for _ in range(count):
        words = made_up(numbers)
        found += run(words) != by_the_machine(words)
    return found


def test_model_does_what_the_list_machine_does(relocate):
    assert disagreements(relocate(MODEL.read_text()), 400) == 0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("i < LINE / WORD; i++", "i < LINE / WORD - 1; i++"),
        ("entry & DESTINATION)", "entry & DONE)"),
        ("ptr += WORD", "ptr += 2 * WORD"),
        ("} else if (entry & INDIRECTION)", "} else if (0)"),
    ],
)
def test_a_wrong_model_is_told_apart(relocate, right, wrong):
    source = MODEL.read_text()
    assert source.count(right) == 1
    # A broken model may miss the end of the list.
    ends = "while (!(entry & DONE) && ptr < 512);"
    broken = source.replace(right, wrong).replace("while (!(entry & DONE));", ends)
    assert disagreements(relocate(broken), 20) > 0
