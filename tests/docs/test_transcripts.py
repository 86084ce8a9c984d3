"""The script that rewrites transcripts, and the marks and commands in the documents."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import click
import msgspec
import pytest
from kexec_verify.cli.commands import cli
from kexec_verify.verdict import Verdict

from tests.unit.html import example

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_spec = importlib.util.spec_from_file_location("transcripts", ROOT / "scripts" / "transcripts.py")
assert _spec is not None and _spec.loader is not None
script = importlib.util.module_from_spec(_spec)
sys.modules["transcripts"] = script
_spec.loader.exec_module(script)

BEGIN, END = "<!-- transcript: -->\n```console\n", "```\n<!-- transcript: end -->\n"


def commands():
    """Each `verify` command of a document's console blocks, marked or not."""
    for document in DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", document.read_text(), re.S):
            for line in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M):
                words = shlex.split(line.replace("\\\n", " "), comments=True)
                if words and words[0].split("/")[-1] == "verify":
                    yield pytest.param(words[1:], id=f"{document.name}: {line[:60]}")


@pytest.mark.parametrize("words", list(commands()))
def test_command_in_a_document_exists_with_its_options(words):
    words = list(words[: words.index("|")] if "|" in words else words)
    group: click.Command = cli
    while isinstance(group, click.Group):
        assert words and words[0] in group.commands, words
        group = group.commands[words.pop(0)]
    options = {name for parameter in group.params for name in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= options | {"-h", "--help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_marks_are_consistent(document):
    script.transcripts(document.read_text())


def test_readme_has_a_transcript():
    assert script.transcripts((ROOT / "README.md").read_text())


@pytest.mark.parametrize(
    "text",
    [
        BEGIN + "$ true\n```\n",
        BEGIN + "no command\n" + END,
        BEGIN.replace(": ", ": heads=3 ") + "$ true\n" + END,
        "$ true\n" + END,
    ],
)
def test_wrong_marks(text):
    with pytest.raises(ValueError, match="expected "):
        script.transcripts(text)


def test_output_replaces_what_was_there(tmp_path):
    document = tmp_path / "a.md"
    printf = "$ printf '1\\n2\\n' \\\n    3\n"
    document.write_text(f"before\n{BEGIN}$ echo one >&2\nold\n{printf}old\n{END}after\n")
    script.rewrite(document)
    assert document.read_text() == f"before\n{BEGIN}$ echo one >&2\none\n{printf}1\n2\n{END}after\n"
    once = document.read_text()
    script.rewrite(document)
    assert document.read_text() == once


def test_head_and_tail(tmp_path):
    document = tmp_path / "a.md"
    begin = BEGIN.replace(": ", ": head=2 tail=1 ")
    document.write_text(f"{begin}$ seq 9\n{END}")
    script.rewrite(document)
    assert document.read_text() == f"{begin}$ seq 9\n1\n2\n[…]\n9\n{END}"


def test_blocks_of_a_document_share_a_folder(tmp_path):
    document = tmp_path / "a.md"
    document.write_text(f"{BEGIN}$ echo x > file\n{END}{BEGIN}$ cat file\n{END}")
    script.rewrite(document)
    assert "$ cat file\nx\n" in document.read_text()


def test_other_exit_status_leaves_the_document(tmp_path):
    document = tmp_path / "a.md"
    text = f"{BEGIN}$ echo lost; false\nold\n{END}"
    document.write_text(text)
    with pytest.raises(RuntimeError, match="expected exit status 0, found 1"):
        script.rewrite(document)
    assert document.read_text() == text
    document.write_text(text.replace(": ", ": status=1 ", 1))
    script.rewrite(document)
    assert "$ echo lost; false\nlost\n```" in document.read_text()


def test_table_of_kernels(tmp_path):
    refuted, unknown = example.refuted("linux-image-6.10.1-arm64"), example.undecided(Verdict.UNKNOWN)
    for made in (refuted, example.proved("linux-image-6.9.2-arm64"), unknown):
        example.write(made, tmp_path)
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in script.kernel_table(tmp_path)[2:]]
    by_name = {row[0]: row[2:] for row in rows}
    assert [row[0] for row in rows][:2] == ["6.9.2-arm64", "6.10.1-arm64"]
    assert by_name["6.9.2-arm64"][1:] == ["0", "0", "0"] and by_name["6.9.2-arm64"][0] != "0"
    assert by_name["6.10.1-arm64"][2] == "1"
    assert by_name[unknown.target.name][3] == "1 UNKNOWN"


def test_a_kernel_that_is_verified_again_replaces_its_row(tmp_path):
    example.write(example.proved("linux-image-6.9.2-arm64_sid"), tmp_path)
    before = ["| 6.10.1-arm64 | 4 KiB | 1 | 0 | 0 | 0 |", "| 6.9.2-arm64 | 4 KiB | 0 | 0 | 1 | 0 |"]
    rows = script.kernel_table(tmp_path, before)[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["6.9.2-arm64", "6.10.1-arm64"]
    assert rows[1] == before[0] and rows[0] != before[1] and rows[0].endswith("| 0 | 0 | 0 |")


def test_table_of_an_interrupted_run_is_refused(tmp_path):
    example.write(msgspec.structs.replace(example.proved(), complete=False), tmp_path)
    with pytest.raises(ValueError, match="found an interrupted one"):
        script.kernel_table(tmp_path)
