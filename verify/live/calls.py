"""Single-steps a function of the kernel, over its calls, and compares what each callee may change."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.errors import LimitError
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import SYSTEM, Stop

KEPT = (*(f"x{i}" for i in range(19, 30)), "sp")
"""General registers that every callee preserves (AAPCS64, 6.1.1), and x29 as the frame pointer."""
_MOST_STEPS = 20_000
_FRAME_BYTES = 512  # of the caller's frame, from SP on
_STUCK = 8  # steps that did not move: the stub's single step sometimes stays where it is


@dataclass(frozen=True)
class Moment:
    """What a callee must leave alone, at one moment: registers, and bytes of objects by name."""

    stop: Stop
    system: dict[str, int]
    objects: dict[str, bytes]


@dataclass(frozen=True)
class Call:
    """One call that was stepped over.

    :param at: address of the call; ``target`` of the callee, ``kimage`` of struct kimage.
    """

    name: str
    at: int
    target: int
    kimage: int
    before: Moment
    after: Moment

    def changed(self) -> list[tuple[str, int, int, int]]:
        """Return each word of an object that differs: object, offset, value before and after."""
        found = []
        for name, before in self.before.objects.items():
            after = self.after.objects[name]
            for offset in range(0, len(before) & -8, 8):
                old, new = before[offset : offset + 8], after[offset : offset + 8]
                if old != new:
                    found.append((name, offset, *struct.unpack("<QQ", old + new)))
        return found


@dataclass
class Trace:
    """One function's run.

    :param path: addresses of its instructions in the order of execution.
    :param ended: where control was when the function was left: a return, or another address.
    """

    code: Code
    path: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ended: int = 0

    def called(self, *names: str) -> list[Call]:
        """Return the calls of functions of these names."""
        return [call for call in self.calls if call.name.partition(".")[0] in names]


@dataclass
class Tracer:
    """Steps through functions of one kernel.

    :param kimage: the loaded image, whose objects callees must leave alone.
    """

    place: Placement
    kimage: Kimage

    def trace(self, code: Code, ends: Iterable[int]) -> Trace:
        """Run ``code`` from its first instruction, where control is, to its return or one of ``ends``.

        :raises LimitError: if it does not end.
        """
        guest, gdb = self.place.guest, self.place.guest.gdb
        now = gdb.general()
        back, sp, stops = now["x30"], now["sp"], frozenset(ends)
        found, stuck = Trace(code), 0
        while len(found.path) < _MOST_STEPS:
            pc = now["pc"]
            if pc in stops or (pc == back and now["sp"] == sp):
                found.ended = pc
                return found
            if not any(pc in piece for piece in code.pieces):
                if not any(now["x30"] in piece for piece in code.pieces):
                    found.ended = pc  # a tail call, or somewhere that it must not go
                    return found
                if not self._over(found, now, stops):
                    found.ended = Stop(guest).pc
                    return found
            else:
                found.path.append(pc)
                gdb.step()
            before, now = now, gdb.general()
            if now["pc"] == before["pc"]:
                found.path.pop()
                stuck += 1
                if stuck > _STUCK:
                    raise LimitError(f"the guest does not move at {self.place.where(pc)}")
        raise LimitError(f"{code.name} did not end in {_MOST_STEPS} steps")

    def _over(self, found: Trace, now: dict[str, int], stops: frozenset[int]) -> bool:
        """Run the callee that control has just entered to its return; whether it did return."""
        guest, back = self.place.guest, now["x30"]
        before = self._moment()
        while True:
            if not guest.gdb.run_to([back, *stops], guest.limit):
                raise LimitError(f"{self._name(now['pc'])} did not return in {guest.limit:.0f} s")
            general = guest.gdb.general()
            if general["pc"] in stops and general["pc"] != back:
                return False
            if general["sp"] == now["sp"]:
                break
        call = Call(
            self._name(now["pc"]), back - SIZE, now["pc"], self.kimage.address, before, self._moment()
        )
        found.calls.append(call)
        return True

    def _name(self, address: int) -> str:
        names = self.place.kernel.symbols_at(address)
        return names[0] if names else self.place.where(address)

    def _moment(self) -> Moment:
        stop = Stop(self.place.guest)
        globals_ = self.place.context.globals
        page = self.place.linked.page_size
        objects = {
            "struct kimage": stop.read(self.kimage.address, self.place.linked.layout.size),
            "the stack frame": stop.read(stop.sp, _FRAME_BYTES),
            "the control page": self.place.guest.read(self.kimage.control, page),
        }
        for name in ("kimage_voffset", "memstart_addr", "kexec_crash_image", "__boot_cpu_mode"):
            if name in globals_:
                objects[name] = self.place.guest.read(self.place.image_to_phys(globals_[name]), 8)
        return Moment(stop, {name: stop.register(name) for name in SYSTEM}, objects)
