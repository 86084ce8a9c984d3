"""The command on kernels that a stand-in for apt serves: the shipped routine under several names."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from kexec_verify.cli.sweep import _tool
from kexec_verify.digest import tool_digest
from kexec_verify.errors import UsageError
from kexec_verify.report.read import read_run
from kexec_verify.sweep import journal
from kexec_verify.verdict import Verdict

ROOT = Path(__file__).resolve().parents[3]
GOOD = ROOT / "binaries" / "kimage-mmu-4k-gcc.elf"
NAMES = ["6.1.0-44-arm64", "6.1.0-45-arm64", "6.1.0-45-cloud-arm64"]
TOOL = """#!/bin/sh
for last; do :; done
echo "$*" >> {root}/log
case "$*" in
*" update "*) exit 0;;
*" pkgnames "*) cat {root}/names;;
*" indextargets "*) echo "Debian|Debian|http://mirror.example/debian/";;
*" show --no-all-versions "*) cat "{root}/record-$last";;
*" show "*) cat {root}/record-*;;
*" download "*) cp "{root}/archive-${{last%%=*}}" ./fetched.deb;;
*--fsys-tarfile*) cat "$2";;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory from which apt and dpkg-deb serve a package for each of NAMES."""
    root = tmp_path / "host"
    root.mkdir()
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        (root / tool).write_text(TOOL.format(root=root))
        (root / tool).chmod(0o755)
    for name in NAMES:
        serve(root, name, GOOD.read_bytes())
    (root / "names").write_text("\n".join(f"linux-image-{name}" for name in NAMES))
    return root


def serve(root: Path, name: str, kernel: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(f"./boot/vmlinuz-{name}")
        member.size = len(kernel)
        tar.addfile(member, io.BytesIO(kernel))
    archive = stream.getvalue()
    (root / f"archive-linux-image-{name}").write_bytes(archive)
    (root / f"record-linux-image-{name}").write_text(
        f"Package: linux-image-{name}\nVersion: {name.partition('-a')[0].replace('.0-', '.1')}-1\n"
        f"Architecture: arm64\nSize: {len(archive)}\nSHA256: {hashlib.sha256(archive).hexdigest()}\n\n"
    )


def start(host: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{host}:/usr/bin:/bin",
        "XDG_CACHE_HOME": str(host.parent / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "kexec_verify", "sweep", *arguments],
        cwd=host.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Who started the tests may have it ignored, and a process goes on ignoring it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def sweep(host: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(host, *arguments)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def kept(host: Path) -> list[str]:
    return [path.name for path in (host.parent / "cache" / "kexec-verify" / "debian" / "kernels").glob("*")]


def test_the_list_names_each_kernel_and_fetches_none(host):
    status, out, err = sweep(host, "--list", "*-45-*")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[:-1]] == [
        f"debian:linux-image-{n}" for n in NAMES[1:]
    ]
    assert out.splitlines()[-1].startswith("2 kernels")
    status, out, _ = sweep(host, "--list", "--format", "json")
    assert [(entry["target"], entry["flavour"]) for entry in json.loads(out)] == [
        ("debian:linux-image-6.1.0-44-arm64", "arm64"),
        ("debian:linux-image-6.1.0-45-arm64", "arm64"),
        ("debian:linux-image-6.1.0-45-cloud-arm64", "cloud-arm64"),
    ]
    assert " download " not in (host / "log").read_text()


def test_the_list_of_other_suites_names_them(host):
    status, out, err = sweep(host, "--list", "--suite", "sid", "--suite", "trixie-backports", "*-45-*")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[:-1]] == [
        f"debian:linux-image-{n}/sid" for n in NAMES[1:]
    ]
    state = host.parent / "cache" / "kexec-verify" / "debian" / "suites"
    assert {path.name for path in state.iterdir()} == {"sid", "trixie-backports"}


def test_what_is_no_suite_is_bad_input(host):
    status, out, err = sweep(host, "--list", "--suite", "..")
    assert (status, out) == (2, "")
    assert err.startswith("verify: error: expected a Debian suite such as trixie-backports, found '..'")


def test_a_glob_of_nothing_is_one_line(host):
    status, out, err = sweep(host, "5.10*")
    assert (status, out) == (2, "")
    assert err.startswith("verify: error: expected a kernel that apt knows, found '5.10*'")
    assert not (host.parent / "reports").exists()


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_failure_and_proves_nothing_twice(host):
    serve(host, NAMES[1], b"no kernel" * 100)
    status, out, err = sweep(host, "--format", "json", "-q")
    assert status == 2, err
    reports = host.parent / "reports"
    found = json.loads(out)
    kernels = {entry["package"].removeprefix("linux-image-"): entry for entry in found["kernels"]}
    assert list(kernels) == NAMES
    assert "expected an ELF file or an arm64 Image" in kernels[NAMES[1]]["error"]
    good = [kernels[NAMES[0]], kernels[NAMES[2]]]
    assert [entry["known"] for entry in good] == [0, good[0]["queries"]]
    assert good[0]["queries"] > 50
    assert {cell["verdict"] for entry in good for cell in entry["properties"]} == {"PROVED"}
    (function,) = found["functions"]
    assert [group["packages"] for shape in function["shapes"] for group in shape["groups"]] == [
        [f"linux-image-{NAMES[0]}", f"linux-image-{NAMES[2]}"]
    ]
    assert (found["differences"], found["exit_status"]) == ([], 2)
    assert kept(host) == []
    assert {path.name for path in reports.iterdir()} == {
        ".history",
        "index.html",
        "sweep.html",
        "sweep.json",
        f"linux-image-{NAMES[0]}",
        f"linux-image-{NAMES[2]}",
    }

    serve(host, NAMES[1], GOOD.read_bytes())
    (host.parent / "cache" / "kexec-verify" / "debian" / "state" / "fetched").unlink()
    (host / "log").write_text("")
    status, out, err = sweep(host)
    assert status == 0, err
    assert (host / "log").read_text().count(" download ") == 1, "only the one that had failed is tried"
    assert "3 kernels, " in out.splitlines()[-2] and "ERROR" not in out
    assert sweep(host)[0] == 0
    assert (host / "log").read_text().count(" download ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_sweep_that_is_interrupted_goes_on_where_it_broke_off(host, name):
    reports = host.parent / "reports"
    process = start(host)
    deadline = time.monotonic() + 200
    while not journal.read(reports).rows and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + getattr(signal, name), err
    assert f"interrupted by {name}" in err
    done = [row.name for row in journal.read(reports).rows]
    assert done and len(done) < len(NAMES)
    assert kept(host) == []
    before = {place: (reports / place / "run.json").read_bytes() for place in done}

    status, _, err = sweep(host)
    assert status == 0, err
    assert {place: (reports / place / "run.json").read_bytes() for place in done} == before
    for kernel in NAMES:
        run = read_run(reports / f"linux-image-{kernel}" / "run.json")
        assert run.complete and run.verdict is Verdict.PROVED


def test_waivers_are_a_part_of_the_digest_that_rows_are_reused_by(tmp_path):
    mine = tmp_path / "mine.toml"
    waiver = (
        '[[waiver]]\nproperty = "inplace-restart"\nvariant = "kimage"\nobligation = "a"\nsentence = "b"\n'
        'reason = "{}"\nreference = "d"\n'
    )
    mine.write_text(waiver.format("one"))
    one = _tool((mine,))
    mine.write_text(waiver.format("two"))
    assert len({_tool(()), one, _tool((mine,))}) == 3
    assert _tool(()) == tool_digest()
    with pytest.raises(UsageError, match="expected a file of waivers"):
        _tool((tmp_path / "nowhere",))
