"""A client of QEMU's gdb stub: GDB's remote serial protocol over a Unix socket (GDB manual, appendix E)."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from kexec_verify.errors import InternalError, LimitError

_FEATURES = b"qSupported:multiprocess-;swbreak+;hwbreak+;xmlRegisters=aarch64"
_CHUNK = 0xFFB
_ENDED = "QEMU has ended: the guest has reset itself, or QEMU has failed"
_MOST_BYTES = 2000  # of memory in one packet


class Gdb:
    """One connection; the guest stands still until it is told to run.

    :param limit: wall-clock seconds that any answer may take, a stop after ``run`` aside.
    :raises LimitError: if QEMU ends, or does not answer in time.
    :raises InternalError: if the stub refuses what it must know.
    """

    def __init__(self, path: Path, limit: float = 120.0):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(limit)
        self._socket.connect(str(path))
        self._limit, self._buffer, self._acknowledges = limit, b"", True
        self._ask(_FEATURES)
        self._ask(b"QStartNoAckMode")
        self._write(b"+")
        self._acknowledges = False
        self._numbers = self._described()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    # The protocol

    def _send(self, body: bytes) -> None:
        self._write(b"$" + body + b"#%02x" % (sum(body) & 0xFF))

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except ConnectionError as error:
            raise LimitError(_ENDED) from error

    def _read(self, until: float) -> bytes:
        while True:
            match = re.search(rb"\$([^#]*)#..", self._buffer, re.DOTALL)
            if match:
                self._buffer = self._buffer[match.end() :]
                if self._acknowledges:
                    self._write(b"+")
                return _expanded(match[1])
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                piece = self._socket.recv(1 << 16)
            except ConnectionError as error:
                raise LimitError(_ENDED) from error
            if not piece:
                raise LimitError(_ENDED)
            self._buffer += piece

    def _ask(self, body: bytes) -> bytes:
        self._send(body)
        try:
            return self._read(time.monotonic() + self._limit)
        except TimeoutError as error:
            raise LimitError(f"QEMU's gdb stub did not answer for {self._limit:.0f} s") from error

    def _told(self, body: bytes) -> None:
        answer = self._ask(body)
        if answer != b"OK":
            raise InternalError(f"QEMU's gdb stub answered {answer!r} to {body!r}")

    def _described(self) -> dict[str, int]:
        """Return the numbers of the registers by name, from the stub's own description."""
        found: dict[str, int] = {}
        number = 0
        for file in re.findall(r'href="([^"]+)"', self._document("target.xml")):
            for attributes in re.findall(r"<reg ([^>]*)/>", self._document(file)):
                named = dict(re.findall(r'(\w+)="([^"]*)"', attributes))
                number = int(named.get("regnum", number))
                found[named["name"]] = number
                number += 1
        return found

    def _document(self, name: str) -> str:
        text = b""
        while True:
            answer = self._ask(b"qXfer:features:read:%s:%x,%x" % (name.encode(), len(text), _CHUNK))
            text += answer[1:]
            if answer[:1] != b"m":
                return text.decode()

    # What it is used for

    def general(self) -> dict[str, int]:
        """Return x0 to x30, sp, pc and cpsr (PSTATE as SPSR_EL1 has it)."""
        data = bytes.fromhex(self._ask(b"g").decode()[: 2 * (33 * 8 + 4)])
        values = struct.unpack("<33QI", data)
        names = (*(f"x{i}" for i in range(31)), "sp", "pc", "cpsr")
        return dict(zip(names, values, strict=True))

    def has(self, name: str) -> bool:
        """Return whether the stub knows a register called ``name``."""
        return name in self._numbers

    def register(self, name: str) -> int:
        """Return a register's value, by the name that the stub has for it.

        :raises KeyError: if it has none of that name.
        """
        answer = self._ask(b"p%x" % self._numbers[name])
        if not answer or answer[:1] == b"E":
            raise KeyError(name)
        return int.from_bytes(bytes.fromhex(answer.decode()), "little")

    def write(self, address: int, data: bytes) -> None:
        """Write memory at a virtual address, as a debugger does: protection does not matter.

        Unlike a write to the RAM file it also drops what QEMU has translated of the bytes.
        """
        for start in range(0, len(data), _MOST_BYTES):
            piece = data[start : start + _MOST_BYTES]
            self._told(b"M%x,%x:%s" % (address + start, len(piece), piece.hex().encode()))

    def set_breakpoint(self, address: int, there: bool = True) -> None:
        """Set or remove a breakpoint at a virtual address, mapped or not."""
        self._told(b"%s1,%x,4" % (b"Z" if there else b"z", address))

    def step(self) -> None:
        """Execute one instruction."""
        self._ask(b"vCont;s:1")

    def run(self, limit: float) -> bool:
        """Run until a breakpoint, for at most ``limit`` wall-clock seconds; whether one was reached.

        Without one the guest is stopped where it is.
        """
        self._send(b"vCont;c:1")
        try:
            self._read(time.monotonic() + limit)
            return True
        except TimeoutError:
            self.interrupt()
            return False

    def start(self) -> None:
        """Let the guest run; ``interrupt`` stops it."""
        self._send(b"vCont;c:1")

    def interrupt(self) -> None:
        """Stop the guest that runs."""
        self._write(b"\x03")
        try:
            self._read(time.monotonic() + self._limit)
        except TimeoutError as error:
            raise LimitError(f"QEMU's gdb stub did not stop the guest for {self._limit:.0f} s") from error

    def run_to(self, addresses: Iterable[int], limit: float) -> bool:
        """Run until control is at one of ``addresses``; whether that is so within ``limit`` seconds."""
        wanted = set(addresses)
        for address in wanted:
            self.set_breakpoint(address)
        try:
            return self.run(limit)
        finally:
            for address in wanted:
                self.set_breakpoint(address, there=False)


def _expanded(body: bytes) -> bytes:
    """Return a packet's body with escapes and run lengths undone."""
    if b"}" not in body and b"*" not in body:
        return body
    found = bytearray()
    at = 0
    while at < len(body):
        if body[at] == ord("}"):
            found.append(body[at + 1] ^ 0x20)
            at += 2
        elif body[at] == ord("*"):
            found += found[-1:] * (body[at + 1] - 29)
            at += 2
        else:
            found.append(body[at])
            at += 1
    return bytes(found)
