"""QEMU's full-system emulator: where it is, and its RAM as a file that other processes map."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from kexec_verify.errors import UsageError

QEMU = "qemu-system-aarch64"


def require_emulator() -> None:
    """Check that QEMU is installed.

    :raises UsageError: if it is not in PATH.
    """
    if shutil.which(QEMU) is None:
        raise UsageError(f"expected {QEMU} in PATH, found none: it is in Debian's qemu-system-arm")


def emulator_version() -> str:
    """Return QEMU's version as it states it, such as ``7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)``.

    :raises UsageError: if it is not in PATH.
    """
    require_emulator()
    told = subprocess.run([QEMU, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    return told.partition("version ")[2].partition("\n")[0]


def ram_file(path: Path, size: int) -> list[str]:
    """Return the options that make the file at ``path`` the machine's RAM, to be named ``ram``.

    :param size: bytes, a multiple of one MiB.
    """
    return [
        *("-m", f"{size >> 20}"),
        *("-object", f"memory-backend-file,id=ram,size={size},mem-path={path},share=on"),
    ]
