"""The words of the bare machine's own code are what their texts say, to LLVM's assembler."""

import re
import subprocess

import pytest
from kexec_verify.bare_metal import startup
from kexec_verify.bare_metal.startup import Words

CODES: dict[str, Words] = {
    "startup": startup.STARTUP,
    "start": startup.START,
    "report EL1": startup.REPORT_EL1,
    "report EL2": startup.REPORT_EL2,
    "call EL2": startup.CALL_EL2,
    **{f"vector {number}": startup.vector(number) for number in range(16)},
}


def assembled(tool: str, texts: list[str]) -> list[int]:
    done = subprocess.run(
        [tool, "-triple=aarch64", "-show-encoding"],
        input="\n".join(texts) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"encoding: \[([^\]]*)\]", done.stdout)
    return [int.from_bytes(bytes(int(byte, 16) for byte in each.split(",")), "little") for each in found]


@pytest.mark.parametrize("name", CODES)
def test_words_are_their_texts(name, require_tool):
    words = CODES[name]
    tool = require_tool("llvm-mc", "llvm")
    assert assembled(tool, [text for _, text in words]) == [word for word, _ in words]


def test_every_vector_leads_to_the_report():
    table = startup.vectors(startup.REPORT_EL1)
    assert len(table) == startup.VECTORS_BYTES
    report = startup.code(startup.REPORT_EL1)
    assert table[8 : 8 + len(report)] == report
    for number in range(16):
        assert table[0x80 * number :][:8] == startup.code(startup.vector(number))
