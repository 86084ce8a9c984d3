"""Rewrites the transcripts in the documents from real runs.

    .venv/bin/python scripts/transcripts.py            every marked block of README.md and docs/
    .venv/bin/python scripts/transcripts.py FILE...    those of these documents
    .venv/bin/python scripts/transcripts.py --kernels REPORTS
                                            rows in the table of docs/kernels.md, from a folder of runs

A block is marked as below. Its ``$`` lines are kept and run in order, in one folder for the whole document,
with an empty cache. What they print replaces the rest of the block. With ``head=N`` and ``tail=M`` only the
first N and the last M lines of each output are shown, with ``[…]`` between them. ``status=N`` is the exit
status that the last command must have, 0 without it. If it is another, the document stays as it is.

    <!-- transcript: head=20 tail=2 status=1 -->
    ```console
    $ verify run broken.elf
    ```
    <!-- transcript: end -->
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"<!-- transcript:(?P<options>(?: \w+=\d+)*) -->\n```console\n(?P<text>.*?)```\n<!-- transcript: end -->",
    re.DOTALL,
)
KERNELS = re.compile(r"<!-- kernels: begin -->\n.*?<!-- kernels: end -->", re.DOTALL)
_ELSEWHERE = re.compile(re.escape(str(ROOT)) + "/")


@dataclass(frozen=True)
class Transcript:
    """A marked block: its commands, and how much of their output is shown."""

    commands: list[str]
    head: int | None
    tail: int | None
    status: int

    @classmethod
    def read(cls, match: re.Match[str]) -> Transcript:
        options = dict(option.split("=") for option in match["options"].split())
        unknown = set(options) - {"head", "tail", "status"}
        if unknown:
            raise ValueError(f"expected head, tail or status, found {', '.join(sorted(unknown))}")
        commands: list[str] = []
        lines = iter(match["text"].splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command += "\n" + next(lines)
                commands.append(command)
        if not commands:
            raise ValueError("expected a line that starts with '$ ', found none")
        numbers = {name: int(value) for name, value in options.items()}
        return cls(commands, numbers.get("head"), numbers.get("tail"), numbers.get("status", 0))

    def shown(self, output: str) -> list[str]:
        """Return the lines of a command's output that the document has."""
        lines = [line.rstrip() for line in _ELSEWHERE.sub("", output).rstrip("\n").split("\n")]
        if self.head is None and self.tail is None:
            return lines
        first, last = self.head or 0, self.tail or 0
        if len(lines) <= first + last:
            return lines
        return [*lines[:first], "[…]", *lines[len(lines) - last :]]


def transcripts(text: str) -> list[Transcript]:
    """Return the marked blocks of a document.

    :raises ValueError: a mark has no block, no end or an unknown option.
    """
    found = [Transcript.read(match) for match in BLOCK.finditer(text)]
    marks = len(re.findall(r"^<!-- transcript:", text, re.MULTILINE))
    if marks != 2 * len(found):
        raise ValueError(
            f"expected a begin and an end for each transcript, found {marks} marks, {len(found)} blocks"
        )
    return found


def run(transcript: Transcript, folder: Path) -> str:
    """Run a block's commands in *folder* and return the block's new text.

    :raises RuntimeError: the last command exits with another status than the block is marked with.
    """
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, "PATH": tools, "KEXEC_VERIFY_CACHE": str(folder / ".cache"), "COLUMNS": "100"}
    lines: list[str] = []
    status = 0
    for command in transcript.commands:
        # Through a pipe a run is one line; a terminal, and so the document, has the whole table.
        shell = re.sub(r"^verify run ", "verify run --verbose ", command)
        done = subprocess.run(
            ["sh", "-c", shell],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        status = done.returncode
        lines += [f"$ {command}", *transcript.shown(done.stdout)]
    if status != transcript.status:
        raise RuntimeError(
            f"{command}: expected exit status {transcript.status}, found {status}\n{done.stdout}"
        )
    return "\n".join(lines) + "\n"


def rewrite(path: Path) -> None:
    """Run the marked blocks of a document and write it."""
    text = path.read_text()
    transcripts(text)  # a wrong mark is told before anything runs
    with tempfile.TemporaryDirectory(prefix="transcripts-") as folder:

        def fresh(match: re.Match[str]) -> str:
            body = run(Transcript.read(match), Path(folder))
            begin = f"<!-- transcript:{match['options']} -->"
            return f"{begin}\n```console\n{body}```\n<!-- transcript: end -->"

        path.write_text(BLOCK.sub(fresh, text))


def kernel_table(reports: Path, known: Iterable[str] = ()) -> list[str]:
    """Return the table of the runs in a folder of reports, by kernel version.

    :param known: rows of kernels that were verified before; those that the reports have again are replaced.
    """
    from kexec_verify.report.read import read_runs

    rows = {row.split("|")[1].strip(): row for row in known}
    for found in read_runs(reports).values():
        if not found.complete:
            raise ValueError(f"expected finished runs, found an interrupted one of {found.target.name}")
        counts = Counter("waived" if p.waived else str(p.verdict) for p in found.properties)
        proved, waived, refuted = (counts.pop(key, 0) for key in ("PROVED", "waived", "REFUTED"))
        undecided = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "0"
        pages = f"{found.function.page_size >> 10} KiB"
        # A kernel is the same in whichever suite it is.
        name = found.target.name.removeprefix("linux-image-").partition("_")[0]
        rows[name] = f"| {name} | {pages} | {proved} | {waived} | {refuted} | {undecided} |"
    head = ["| kernel | pages | PROVED | waived | REFUTED | undecided |", "|---|---|---|---|---|---|"]
    return [*head, *(rows[name] for name in sorted(rows, key=_version))]


def _version(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--kernels"]:
        path = ROOT / "docs" / "kernels.md"
        text = path.read_text()
        known = KERNELS.search(text)[0].splitlines()[3:-1]
        table = "\n".join(["<!-- kernels: begin -->", *kernel_table(Path(arguments[1]), known)])
        path.write_text(KERNELS.sub(lambda _: f"{table}\n<!-- kernels: end -->", text))
        return
    documents = [Path(name) for name in arguments] or [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    for document in documents:
        if BLOCK.search(document.read_text()):
            print(f"transcripts: {shlex.quote(str(document))}")
            rewrite(document)


if __name__ == "__main__":
    main(sys.argv[1:])
