"""A guest: one QEMU process, its console, its debugger, and its RAM read from the file that it is kept in."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kexec_verify.bare_metal.emulator import QEMU, ram_file, require_emulator
from kexec_verify.errors import InternalError, LimitError
from kexec_verify.live.gdb import Gdb

RAM_BASE = 0x4000_0000
"""First physical address of RAM on QEMU's ``virt``."""
RAM_BYTES = 512 << 20
_SEED = 7  # of kaslr-seed in the device tree: KASLR is on, and a run can be repeated
_START_LIMIT = 60.0
_POLL = 0.01
_FAULT = re.compile(r"\] ((?:Unable to handle|Internal error|kernel BUG|Kernel panic)[^\n]*)")


@dataclass(frozen=True)
class Level:
    """A configuration of exception levels.

    :param machine: options of QEMU's ``virt``.
    :param cpu: the model that is used unless another is asked for.
    """

    machine: str
    cpu: str


LEVELS = {
    "el1": Level("", "cortex-a57"),
    "nvhe": Level(",virtualization=on", "cortex-a57"),
    "vhe": Level(",virtualization=on", "neoverse-n1"),
}
"""The kernel at EL1 with no EL2; at EL1 above its own stub at EL2; at EL2 (Armv8.1 VHE)."""


class Guest:
    """A machine that stands at its first instruction until it is told to run.

    :param level: of LEVELS; ``cpu`` QEMU's name of the model, or "" for the level's own.
    :param append: the kernel's command line.
    :param limit: wall-clock seconds that any wait for the guest may take.
    :raises UsageError: if QEMU is not installed.
    :raises InternalError: if it does not start.
    """

    def __init__(self, kernel: Path, initrd: Path, append: str, level: str, cpu: str, limit: float):
        require_emulator()
        self.limit = limit
        self.console = bytearray()
        self._folder = tempfile.TemporaryDirectory(prefix="live-", dir=_fast_folder())
        place = Path(self._folder.name)
        chosen = LEVELS[level]
        self.command = [
            *(QEMU, "-S", "-no-reboot", "-nodefaults", "-no-user-config", "-nographic"),
            *("-M", f"virt,dtb-randomness=on,memory-backend=ram{chosen.machine}"),
            *("-cpu", cpu or chosen.cpu, "-smp", "1", "-seed", str(_SEED)),
            *ram_file(place / "ram", RAM_BYTES),
            *("-chardev", f"socket,id=console,path={place}/console,server=on,wait=off"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=gdb,path={place}/gdb,server=on,wait=off", "-gdb", "chardev:gdb"),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", append),
        ]
        self._ram = -1
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            self._await_sockets(place)
            self._console = socket.socket(socket.AF_UNIX)
            self._console.connect(str(place / "console"))
            threading.Thread(target=self._listen, daemon=True).start()
            self.gdb = Gdb(place / "gdb", limit)
            self._ram = os.open(place / "ram", os.O_RDWR)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and drop its memory."""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.communicate()
        if self._ram >= 0:
            os.close(self._ram)
            self._ram = -1
        self._folder.cleanup()

    def _await_sockets(self, place: Path) -> None:
        until = time.monotonic() + _START_LIMIT
        while not all((place / name).exists() for name in ("console", "gdb", "ram")):
            if self._process.poll() is not None:
                raise InternalError(f"{QEMU} has ended: {self._errors()}")
            if time.monotonic() > until:
                raise LimitError(f"{QEMU} did not start within {_START_LIMIT:.0f} s")
            time.sleep(_POLL)

    def _errors(self) -> str:
        _, errors = self._process.communicate()
        return errors.decode(errors="replace").strip()[-400:]

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._console.recv(1 << 16):
                self.console += piece

    @property
    def cpu_seconds(self) -> float:
        """CPU time that QEMU has used."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def text(self) -> str:
        """What the guest has printed so far."""
        return self.console.decode(errors="replace").replace("\r\n", "\n")

    def enter(self) -> None:
        """Send the line that the guest's script waits for."""
        self._console.sendall(b"\n")

    def run_until_printed(self, *texts: str) -> str:
        """Run until the guest has printed one of ``texts``, and stop it; the one that was printed.

        :raises LimitError: if none is printed in time, or QEMU ends.
        """
        until = time.monotonic() + self.limit
        self.gdb.start()
        while True:
            found = next((text for text in texts if text.encode() in self.console), None)
            if found is not None:
                break
            if self._process.poll() is not None:
                raise LimitError(f"the guest ended before it printed {texts[0]!r}: {self.tail()}")
            if time.monotonic() > until:
                self.gdb.interrupt()
                raise LimitError(f"the guest did not print {texts[0]!r} in {self.limit:.0f} s: {self.tail()}")
            time.sleep(_POLL)
        self.gdb.interrupt()
        return found

    def oops(self) -> str:
        """Return what the kernel has printed of its first fault, and where it was; "" if it had none."""
        found = _FAULT.search(self.text)
        if found is None:
            return ""
        place = re.search(r"\] pc : ([^\n]*)", self.text[found.start() :])
        return found[1].strip() + (f", at {place[1].strip()}" if place is not None else "")

    def tail(self) -> str:
        """Return the last lines that the guest has printed."""
        return " | ".join(self.text.splitlines()[-3:])

    # Physical memory

    def read(self, physical: int, size: int) -> bytes:
        """Return ``size`` bytes of RAM.

        :raises ValueError: if some of them are not RAM.
        """
        offset = physical - RAM_BASE
        if not 0 <= offset <= offset + size <= RAM_BYTES:
            raise ValueError(f"{physical:#x} is no address of RAM")
        return os.pread(self._ram, size, offset)

    def word(self, physical: int) -> int:
        """Return the 64-bit word at a physical address."""
        (value,) = struct.unpack("<Q", self.read(physical, 8))
        return int(value)

    def write(self, physical: int, data: bytes) -> None:
        """Write RAM behind the guest's back; not for code, of which QEMU keeps translations."""
        os.pwrite(self._ram, data, physical - RAM_BASE)

    def is_ram(self, physical: int, size: int = 1) -> bool:
        """Return whether all ``size`` bytes at a physical address are RAM."""
        return RAM_BASE <= physical <= physical + size <= RAM_BASE + RAM_BYTES

    def snapshot(self) -> Snapshot:
        """Return a copy of RAM, of which parts that nothing has touched are left out."""
        parts: dict[int, bytes] = {}
        for start, end in self._touched():
            for at in range(start, end, Snapshot.PART):
                parts[at] = os.pread(self._ram, Snapshot.PART, at)
        return Snapshot(parts)

    def _touched(self) -> Iterator[tuple[int, int]]:
        """Yield the parts of the RAM file that hold data, in whole parts of a snapshot."""
        at, last = 0, 0
        while at < RAM_BYTES:
            try:
                start = os.lseek(self._ram, at, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            end = os.lseek(self._ram, start, os.SEEK_HOLE)
            low, high = max(last, start & -Snapshot.PART), -(-end // Snapshot.PART) * Snapshot.PART
            yield low, high
            at, last = end, high


@dataclass(frozen=True)
class Snapshot:
    """RAM at one moment: bytes by offset, in parts of PART bytes; what is left out is zero."""

    parts: dict[int, bytes]
    PART = 1 << 21

    def read(self, physical: int, size: int) -> bytes:
        """Return ``size`` bytes at a physical address; they do not cross a part."""
        offset = physical - RAM_BASE
        part = self.parts.get(offset & -self.PART)
        at = offset % self.PART
        return bytes(size) if part is None else part[at : at + size]

    def changed(self, later: Snapshot, page: int) -> set[int]:
        """Return the physical addresses of the pages of ``page`` bytes that differ from ``later``."""
        found = set()
        blank = bytes(self.PART)
        for offset in sorted(self.parts.keys() | later.parts.keys()):
            before, after = self.parts.get(offset, blank), later.parts.get(offset, blank)
            if before != after:
                for at in range(0, self.PART, page):
                    if before[at : at + page] != after[at : at + page]:
                        found.add(RAM_BASE + offset + at)
        return found


def _fast_folder() -> str | None:
    """A folder in memory where there is one: half a GiB of RAM is written to its file."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def command_line(mode: str, further: Sequence[str] = ()) -> str:
    """Return the kernel's command line: the console, what a panic does, and the script's mode."""
    reserved = ["crashkernel=128M"] if mode == "crash" else []
    words = ["earlycon=pl011,0x9000000", "console=ttyAMA0", "panic=-1", f"live.mode={mode}"]
    return " ".join([*words, *reserved, *further])
