"""A sweep over two small kernels of the suites: proved, compared, and not proved again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kexec_verify.target.debian import images, is_cached

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def sweep(reports: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "kexec_verify",
        "sweep",
        *arguments,
        "--reports",
        str(reports),
        "--format",
        "json",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=850)


def test_the_two_newest_cloud_kernels_are_proved_and_share_what_is_the_same(require_tool, tmp_path: Path):
    require_tool("apt-get", "apt")
    chosen = [p for p in images() if p.flavour == "cloud-arm64" and p.version.startswith("6.1.")][-2:]
    if len(chosen) < 2:
        pytest.skip("the suites hold no two linux-image of series 6.1, flavour cloud-arm64")
    held = [is_cached(package) for package in chosen]
    globs = [package.package for package in chosen]

    done = sweep(tmp_path, *globs)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert [kernel["package"] for kernel in found["kernels"]] == globs
    assert found["differences"] == []
    first, second = found["kernels"]
    assert (first["known"], second["queries"] > 300, second["known"] > 100) == (0, True, True)
    routine = next(f for f in found["functions"] if f["name"] == "arm64_relocate_new_kernel")
    assert len(routine["shapes"]) == 1
    assert [is_cached(package) for package in chosen] == held
    page = (tmp_path / "sweep.html").read_text()
    assert all(f'href="{name}/index.html' in page for name in globs)

    again = sweep(tmp_path, *globs)
    assert again.returncode == 0
    assert json.loads(again.stdout) == found
