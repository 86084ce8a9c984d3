"""Live runs of one kernel in several configurations."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import kexec_verify
from kexec_verify.bare_metal.emulator import emulator_version
from kexec_verify.errors import UsageError
from kexec_verify.files import printable
from kexec_verify.live.initramfs import Userland, archive_of, userland
from kexec_verify.live.packages import open_archives
from kexec_verify.live.placement import linked
from kexec_verify.live.session import Change, Session, attempt
from kexec_verify.report.live_model import SCHEMA, Configuration, LiveRun
from kexec_verify.report.model import Run
from kexec_verify.target import Kernel
from kexec_verify.target.compressed import unpack
from kexec_verify.target.header import is_image

LIMIT = 300.0
"""Wall-clock seconds that any wait for the guest may take unless another limit is asked for."""


def boot_image(data: bytes, source: str) -> bytes:
    """Return the Image in the contents of a kernel's file, as QEMU boots it.

    :raises UsageError: if there is none: an ELF file is not what a boot loader loads.
    """
    image = unpack(data, source)
    if not is_image(image):
        shown = printable(source)
        raise UsageError(
            f"{shown}: expected an Image to boot, found an ELF file: name arch/arm64/boot/Image of that build"
        )
    return image


def run_live(
    kernel: Kernel,
    data: bytes,
    levels: Sequence[str],
    modes: Sequence[str],
    cpu: str = "",
    limit: float = LIMIT,
    proved: Run | None = None,
    progress: Callable[[str], None] = lambda text: None,
    done: Callable[[Configuration], None] = lambda configuration: None,
    change: Change | None = None,
) -> LiveRun:
    """Boot ``kernel`` in each configuration of exception levels and modes.

    :param data: the contents of its file.
    :param cpu: QEMU's name of the CPU, or "" for each level's own.
    :param limit: wall-clock seconds that any wait for the guest may take.
    :param proved: a finished run of the same bytes.
    :param change: what is done to the guest where machine_kexec is entered.
    :raises VerifyError: if QEMU is missing, a package cannot be fetched, or the kernel's code is not known.
    """
    version = emulator_version()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    progress("fetching the guest's packages")
    guest: Userland = userland(open_archives())
    image = boot_image(data, kernel.source)
    initramfs = archive_of(guest.files.items(), image)
    progress("locating the kexec code")
    where = linked(kernel)
    found = []
    with tempfile.TemporaryDirectory(prefix="live-") as folder:
        paths = Path(folder) / "Image", Path(folder) / "initramfs"
        for path, content in zip(paths, (image, initramfs), strict=True):
            path.write_bytes(content)
        for mode in modes:
            for level in levels:
                progress(f"{mode}, {level}")
                session = Session(where, *paths, level, mode, cpu, limit, proved, change)
                found.append(attempt(session))
                done(found[-1])
    return LiveRun(
        SCHEMA,
        f"kexec-verify {kexec_verify.__version__}",
        started,
        kernel.name,
        kernel.source,
        kernel.sha256,
        kernel.version or "",
        {"QEMU": version, **{archive.name: archive.version for archive in guest.packages}},
        hashlib.sha256(initramfs).hexdigest(),
        found,
    )
