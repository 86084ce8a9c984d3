"""Run scene after scene in one QEMU process, each from a reset.

RAM is a file that both processes map. A reset does not drop QEMU's translations of code, so the
start-up code itself, never this process, writes the pages that are run.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kexec_verify.bare_metal.emulator import QEMU, ram_file, require_emulator
from kexec_verify.bare_metal.image import RAM, STAGE, WORK
from kexec_verify.bare_metal.scene import Scene
from kexec_verify.bare_metal.startup import CONTROL, PARAMETERS, REGISTERS, REPORT, STARTUP, code
from kexec_verify.errors import InternalError

_RAM_BYTES = 64 << 20
_STARTUP = CONTROL + 0x1_0000
_CPUS = {4096: "cortex-a57", 16384: "cortex-a76", 65536: "cortex-a57"}
"""The oldest that QEMU has with these page sizes: it has few extensions, so few instructions are legal."""
_REPORT_WORDS = 16
_POLL = 0.0005
_QUIET = 0.05
_LOOKS = 20


@dataclass(frozen=True)
class Report:
    """The result of one run.

    :param status: ``startup.ENTERED`` and so on; 0 for a run that reported nothing in time.
    :param values: the report's words.
    :param pages: the pages from WORK on.
    :param pc: where a run without a report was.
    """

    status: int
    values: tuple[int, ...]
    pages: bytes
    pc: int = 0


class Machine:
    """A QEMU process for one page size.

    :param busy: seconds of CPU time after which a run counts as hanging.
    :param idle: wall-clock seconds after which a waiting run counts as hanging.
    :raises UsageError: if QEMU is not installed.
    """

    def __init__(self, page_size: int = 4096, busy: float = 0.3, idle: float = 0.3):
        require_emulator()
        self.page_size, self.busy, self.idle = page_size, busy, idle
        self._folder = tempfile.TemporaryDirectory(prefix="bare-metal-")
        path = Path(self._folder.name) / "ram"
        with path.open("w+b") as file:
            file.truncate(_RAM_BYTES)
            self._ram = mmap.mmap(file.fileno(), _RAM_BYTES)
        self._process: subprocess.Popen[bytes] | None = None
        self._events: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and drop its memory."""
        self._stop()
        self._ram.close()
        self._folder.cleanup()

    def run(self, scene: Scene) -> Report:
        """Run one scene from a reset until it reports or hangs."""
        if self._process is None:
            self._start()
        self._load(scene)
        self._reset()
        self._ask("cont")
        if not self._reported():
            pc = self._pc()
            pages = self._read(WORK, len(scene.image.data))
            self._stop()
            return Report(0, (0,) * _REPORT_WORDS, pages, pc)
        self._ask("stop")
        values = struct.unpack(f"<{_REPORT_WORDS}Q", self._read(CONTROL + REPORT, 8 * _REPORT_WORDS))
        return Report(self._status(), values, self._read(WORK, len(scene.image.data)))

    def _load(self, scene: Scene) -> None:
        self._write(CONTROL, bytes(0x400))
        self._write(STAGE, bytes(scene.image.data))
        parameters = scene.registers.words(len(scene.image.data))
        self._write(CONTROL + PARAMETERS, struct.pack(f"<{len(parameters)}Q", *parameters))
        self._write(CONTROL + REGISTERS, struct.pack("<31Q", *scene.general))

    def _reset(self) -> None:
        """Reset the machine; the reply to the command comes before that is done."""
        assert self._process is not None
        self._events.clear()
        self._ask("system_reset")
        while "RESET" not in self._events:
            self._events.append(str(self._line().get("event")))

    def _reported(self) -> bool:
        """Wait for the report, as long as a run may take."""
        used, since = self._cpu_seconds(), time.monotonic()
        while not self._status():
            time.sleep(_POLL)
            if self._status():
                return True
            waited = time.monotonic() - since
            if waited < _QUIET:
                continue
            if self._cpu_seconds() - used > self.busy or (waited > self.idle and self._rests()):
                return False
        return True

    def _rests(self) -> bool:
        """Return whether no thread of the process wants to run for a while: its guest waits for something."""
        assert self._process is not None
        for _ in range(_LOOKS):
            for path in Path(f"/proc/{self._process.pid}/task").glob("*/stat"):
                if path.read_text().rpartition(")")[2].split()[0] != "S":
                    return False
            time.sleep(_QUIET / 10)
        return not self._status()

    def _cpu_seconds(self) -> float:
        assert self._process is not None
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError as error:
            raise InternalError(f"{QEMU} has ended") from error
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        self._write(_STARTUP, code(STARTUP))
        self._process = subprocess.Popen(
            [
                *(QEMU, "-S", "-no-shutdown", "-nodefaults", "-display", "none", "-net", "none"),
                *("-M", "virt,virtualization=on,memory-backend=ram", "-cpu", _CPUS[self.page_size]),
                *ram_file(Path(self._folder.name) / "ram", _RAM_BYTES),
                *("-device", f"loader,addr={_STARTUP:#x},cpu-num=0"),
                *("-chardev", "stdio,id=qmp", "-mon", "chardev=qmp,mode=control"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._line()  # the greeting
        self._ask("qmp_capabilities")

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _line(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            self._process = None
            raise InternalError(f"{QEMU} has ended: {errors.decode(errors='replace').strip()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _ask(self, command: str, **arguments: str) -> Any:
        assert self._process is not None and self._process.stdin is not None
        text = json.dumps({"execute": command, "arguments": arguments})
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()
        while True:
            reply = self._line()
            if "error" in reply:
                raise InternalError(f"{QEMU} refused {command}: {reply['error']}")
            if "return" in reply:
                return reply["return"]
            self._events.append(str(reply.get("event")))

    def _pc(self) -> int:
        text = self._ask("human-monitor-command", **{"command-line": "info registers"})
        _, _, rest = str(text).partition("PC=")
        return int(rest[:16], 16) if rest else 0

    def _status(self) -> int:
        (status,) = struct.unpack("<Q", self._read(CONTROL, 8))
        return int(status)

    def _read(self, address: int, size: int) -> bytes:
        return self._ram[address - RAM : address - RAM + size]

    def _write(self, address: int, data: bytes) -> None:
        self._ram[address - RAM : address - RAM + len(data)] = data
