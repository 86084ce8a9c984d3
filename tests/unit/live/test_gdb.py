"""The client of the gdb stub, against a stub of a few lines."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kexec_verify.errors import InternalError, LimitError
from kexec_verify.live.gdb import Gdb, _expanded

TARGET = b'<target><xi:include href="core.xml"/></target>'
CORE = b'<feature><reg name="x0" bitsize="64" regnum="0"/><reg name="VBAR_EL2" bitsize="64"/></feature>'


def answer(body: bytes) -> bytes:
    if body.startswith(b"qXfer:features:read:target.xml"):
        return b"l" + TARGET
    if body.startswith(b"qXfer:features:read:core.xml"):
        return b"l" + CORE
    if body == b"p1":
        return b"0011223344556677"
    if body == b"g":
        return (b"".join(i.to_bytes(8, "little") for i in range(33)) + b"\xc5\x03\0\0").hex().encode()
    return {b"vCont;c:1": b"T05thread:01;", b"m": b"E22"}.get(body, b"OK")


@contextmanager
def stub(path: Path) -> Iterator[list[bytes]]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        data = b""
        while piece := connection.recv(4096):
            data += piece.replace(b"+", b"") if piece == b"+" else piece
            while b"#" in data and len(data) >= data.index(b"#") + 3:
                end = data.index(b"#")
                body = data[data.index(b"$") + 1 : end]
                data = data[end + 3 :]
                heard.append(body)
                told = answer(body)
                connection.sendall(b"$" + told + b"#%02x" % (sum(told) & 0xFF))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield heard
    server.close()


def test_registers_by_the_names_that_the_stub_gives(tmp_path):
    with stub(tmp_path / "gdb"):
        gdb = Gdb(tmp_path / "gdb", 10)
        assert gdb.has("VBAR_EL2") and not gdb.has("VBAR_EL3")
        assert gdb.register("VBAR_EL2") == 0x7766554433221100
        general = gdb.general()
        assert (general["x30"], general["sp"], general["pc"], general["cpsr"]) == (30, 31, 32, 0x3C5)
        gdb.close()


def test_breakpoints_are_removed_after_the_run(tmp_path):
    with stub(tmp_path / "gdb") as heard:
        gdb = Gdb(tmp_path / "gdb", 10)
        assert gdb.run_to([0x1000], 10)
        assert heard[-3:] == [b"Z1,1000,4", b"vCont;c:1", b"z1,1000,4"]
        gdb.close()


def test_a_write_goes_out_in_packets(tmp_path):
    with stub(tmp_path / "gdb") as heard:
        gdb = Gdb(tmp_path / "gdb", 10)
        gdb.write(0x1000, b"\x01" * 2001)
        assert [body[:9] for body in heard[-2:]] == [b"M1000,7d0", b"M17d0,1:0"]
        gdb.close()


def test_a_stub_that_refuses_is_an_internal_fault(tmp_path, monkeypatch):
    with stub(tmp_path / "gdb"):
        gdb = Gdb(tmp_path / "gdb", 10)
        monkeypatch.setitem(globals(), "answer", lambda body: b"E01")
        with pytest.raises(InternalError):
            gdb.set_breakpoint(0x1000)
        gdb.close()


@pytest.mark.parametrize("ask", [lambda gdb: gdb.general(), lambda gdb: gdb.run(10), lambda gdb: gdb.step()])
def test_an_emulator_that_ends_is_told(tmp_path, monkeypatch, ask):
    with stub(tmp_path / "gdb"):
        gdb = Gdb(tmp_path / "gdb", 10)
        gdb._socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(LimitError, match="QEMU has ended"):
            ask(gdb)
        gdb.close()


def test_escapes_and_run_lengths_are_undone():
    assert _expanded(b"0* ") == b"0000"
    assert _expanded(b"a}\x03b") == b"a#b"
