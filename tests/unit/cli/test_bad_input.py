"""Bad input: one line that says what was expected and what was found, exit 2, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
GOOD = BINARIES / "kimage-mmu-4k-gcc.elf"


def verify(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kexec_verify", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


def assert_refused(done: subprocess.CompletedProcess[str], *mentioned: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("verify: error: ")
    assert done.stderr.count("\n") == 1
    for text in mentioned:
        assert text in done.stderr


def with_byte(offset: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + bytes([value]) + data[offset + 1 :]


FILES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "empty": (lambda data: b"", "expected an arm64 kernel", "found an empty file"),
    "text": (lambda data: b"no kernel at all", "expected an ELF file or an arm64 Image", "found bytes 6e 6f"),
    "x86": (with_byte(18, 62), "expected an AArch64 ELF", "found x86-64"),
    "riscv": (with_byte(18, 243), "expected an AArch64 ELF", "found"),
    "big-endian": (with_byte(5, 2), "expected a little-endian ELF", "found data encoding 2"),
    "32-bit": (with_byte(4, 1), "expected", "found"),
    "header only": (lambda data: data[:40], "expected", "found 40 bytes"),
    "half": (lambda data: data[: len(data) // 2], "expected", f"found {GOOD.stat().st_size // 2} bytes"),
    "without kexec": (
        lambda data: data.replace(b"arm64_relocate_new_kernel", b"arm64_relocate_old_kernel"),
        "expected a symbol arm64_relocate_new_kernel",
        "found neither",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_no_kernel(tmp_path, name):
    change, expected, found = FILES[name]
    target = tmp_path / "target"
    target.write_bytes(change(GOOD.read_bytes()))
    done = verify("run", target, "--reports", tmp_path / "reports", cwd=tmp_path)
    assert_refused(done, str(target), expected, found)
    assert {path.name for path in tmp_path.iterdir()} == {"target"}


def test_directory(tmp_path):
    refused = "expected vmlinux or arch/arm64/boot/Image in this folder, found neither"
    assert_refused(verify("run", tmp_path, cwd=tmp_path), f"{tmp_path}: {refused}")
    (tmp_path / "vmlinux").write_bytes(b"")
    assert_refused(verify("run", tmp_path, cwd=tmp_path), f"{tmp_path}/vmlinux: expected an arm64 kernel")


def test_missing_file(tmp_path):
    done = verify("run", "nowhere", cwd=tmp_path)
    assert_refused(done, "nowhere: expected a readable file, found: No such file or directory")


@pytest.mark.parametrize("command", ["run", "gate", "replay", "report", "explain", "check"])
def test_name_that_is_too_long(tmp_path, command):
    done = verify(command, "a" * 5000, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("verify: error: ") and done.stderr.count("\n") == 1
    assert "internal fault" not in done.stderr


def test_name_with_a_line_break_is_still_one_line(tmp_path):
    assert_refused(verify("run", "two\nlines", cwd=tmp_path), "two lines")


def test_name_that_looks_like_markup_is_printed_as_it_is(tmp_path):
    assert_refused(verify("run", "[red]x[/red]", cwd=tmp_path), "[red]x[/red]")


def test_debian_package_without_apt(tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    places = {"PATH": str(empty), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = verify("run", "debian:linux-image-nothing", cwd=tmp_path, **places)
    assert_refused(done, "apt")


@pytest.mark.parametrize("name", ["../etc/passwd", "-o", "a b", ""])
def test_name_that_is_no_package(tmp_path, name):
    done = verify("run", f"debian:{name}", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert_refused(done, "expected a Debian package's name after debian:")


@pytest.mark.parametrize(
    "arguments", [("debian:linux-image-x/No",), ("--suite", "No", "debian:linux-image-x")]
)
def test_what_is_no_suite_of_debian(tmp_path, arguments):
    done = verify("run", *arguments, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert_refused(
        done, "debian:linux-image-x/No: expected a Debian suite such as trixie-backports, found 'No'"
    )


def test_glob_that_matches_no_property_is_said_before_anything_is_loaded(tmp_path):
    done = verify("run", "nowhere", "--property", "nothing-*", cwd=tmp_path)
    assert_refused(done, "expected a property, found 'nothing-*'; next: verify list")


def test_misspelt_property_is_told_its_neighbour(tmp_path):
    for arguments in (("run", GOOD, "--property", "relok-step*"), ("show", "relok-step*")):
        done = verify(*arguments, cwd=tmp_path)
        assert_refused(done, "found 'relok-step*'; reloc-step is near; next: verify list")


def test_nothing_typed_is_answered_with_the_help(tmp_path):
    done = verify(cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ") and len(done.stderr.splitlines()) > 10


@pytest.mark.parametrize("command", ["gate", "report", "replay", "explain", "check"])
def test_run_that_is_not_there_has_to_be_made(tmp_path, command):
    assert_refused(
        verify(command, "reports", cwd=tmp_path), "expected a run.json", "; next: verify run TARGET"
    )


@pytest.mark.parametrize("arguments", ["frob", "run --frob", "show", "show nothing", "list x"])
def test_wrong_usage(tmp_path, arguments):
    assert_refused(verify(*arguments.split(), cwd=tmp_path))


def test_empty_glob_of_show(tmp_path):
    done = verify("show", "", cwd=tmp_path)
    assert_refused(done, "expected a property, found")


def test_directory_of_reports_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    done = verify(
        "run", GOOD, "--property", "reloc-covered", "--reports", tmp_path / "file" / "reports", cwd=tmp_path
    )
    assert_refused(done, "expected a directory to write to")


def test_fault_of_the_tool_is_told_apart_from_a_refutation(tmp_path):
    script = (
        "import kexec_verify.kexec.locate as locate\n"
        "def fail(kernel): raise ValueError('a bug')\n"
        "locate.find_routine = fail\n"
        "from kexec_verify.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", str(GOOD)],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 70
    assert done.stderr.startswith("verify: error: ")


@pytest.mark.parametrize(
    "patch", ["+0x" + "f" * 10_000 + "=0x0", "+" + "9" * 10_000 + "=0", "+0=" + "9" * 10_000]
)
def test_patch_with_a_huge_number(tmp_path, patch):
    done = verify("extract", GOOD, "copy.elf", "--patch", f"arm64_relocate_new_kernel{patch}", cwd=tmp_path)
    assert_refused(done, "expected SYMBOL+OFFSET=WORD")
    assert len(done.stderr) < 300


def test_terminal_that_is_ascii(tmp_path):
    done = verify("show", "reloc-step", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    script = "from kexec_verify.cli import main, commands; import click\nimport kexec_verify.cli as c\n"
    script += "c.cli = lambda standalone_mode: c.Terminal().line('a \u2192 b')\nmain()\n"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (run.returncode, run.stdout) == (0, "a \\u2192 b\n")


@pytest.mark.slow
def test_name_that_is_not_utf8(tmp_path):
    target = os.fsdecode(os.fsencode(tmp_path) + b"/kernel-\xff.elf")
    Path(target).write_bytes(GOOD.read_bytes())
    done = verify("run", target, "--property", "reloc-covered", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "reports").glob("*/run.json")
    assert "kernel-\\\\xff.elf" in written.read_text() or "\\\\udcff" in written.read_text()


def test_a_command_that_does_not_exist_names_a_near_one(tmp_path):
    assert_refused(verify("rnu", cwd=tmp_path), "No such command 'rnu'. Did you mean 'run'?")


def test_unknown_symbol_of_a_patch_suggests_near_names(tmp_path):
    patch = "arm64_relocate_new_kernal+0x4=0xd503201f"
    done = verify("extract", GOOD, tmp_path / "out.elf", "--patch", patch, cwd=tmp_path)
    assert_refused(done, "found 'arm64_relocate_new_kernal'; near names: arm64_relocate_new_kernel")
