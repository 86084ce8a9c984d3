"""One configuration: boots the guest, loads an image, stops where the proofs begin, and checks them there."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kexec_verify.errors import LimitError, VerifyError
from kexec_verify.kexec.context import RESTART
from kexec_verify.live import entries
from kexec_verify.live.calls import Trace, Tracer
from kexec_verify.live.checks import Checks
from kexec_verify.live.contracts import check_call
from kexec_verify.live.ending import check_entry, check_memory, death, run_to_entry
from kexec_verify.live.globals import check_globals
from kexec_verify.live.guest import LEVELS, Guest, command_line
from kexec_verify.live.initramfs import FAILED, LOADED, READY
from kexec_verify.live.lists import KexecList, ListError, check_list, walk
from kexec_verify.live.loaded import Kimage, kimage_at
from kexec_verify.live.patches import check_patches
from kexec_verify.live.paths import Paths
from kexec_verify.live.placement import Linked, Placement, image_base
from kexec_verify.live.prepared import check_prepared
from kexec_verify.live.stop import Stop, UnmappedError
from kexec_verify.live.vectors import check_stub, kvm_distance
from kexec_verify.report.live_model import Configuration, DeathRecord, DifferenceRecord
from kexec_verify.report.model import Run
from kexec_verify.specs.hyp_stub import HVC_SOFT_RESTART

POST_LOAD, MACHINE_KEXEC = "machine_kexec_post_load", "machine_kexec"
_MOST_STEPS = 2000
_CONSOLE = 2000  # characters

type Change = Callable[[Placement, Stop, Kimage], None]
"""Changes a guest where machine_kexec is entered, to see which check notices."""


@dataclass
class Session:
    """One run of a guest.

    :param image: the kernel as QEMU boots it; ``initrd`` the guest's initramfs.
    :param proved: a finished run of the same bytes, whose paths are compared.
    :param change: what a test does to the guest where machine_kexec is entered.
    """

    linked: Linked
    image: Path
    initrd: Path
    level: str
    mode: str
    cpu: str
    limit: float
    proved: Run | None = None
    change: Change | None = None
    checks: Checks = field(default_factory=Checks)
    differences: list[DifferenceRecord] = field(default_factory=list)
    death: DeathRecord | None = None

    def run(self) -> Configuration:
        """Boot the guest and check what can be checked; a guest that dies is a result."""
        started = time.monotonic()
        outcome, reason = "stopped", ""
        cpu = self.cpu or LEVELS[self.level].cpu
        with Guest(self.image, self.initrd, command_line(self.mode), self.level, cpu, self.limit) as guest:
            try:
                outcome = self._run(guest)
            except (LimitError, UnmappedError, ListError, TimeoutError) as error:
                reason = str(error) or "a time limit was reached"
                if fault := guest.oops():
                    outcome, reason = "died", fault
            used, console = guest.cpu_seconds, guest.text[-_CONSOLE:]
        return Configuration(
            self.level,
            self.mode,
            cpu,
            outcome,
            reason,
            self.checks.records,
            self.differences,
            self.death,
            round(time.monotonic() - started, 2),
            round(used, 2),
            console,
        )

    def _run(self, guest: Guest) -> str:
        base = image_base(guest)
        guest.run_until_printed(READY)
        place = Placement(guest, self.linked, base)
        kimage, found = self._load(place)
        if guest.run_until_printed(LOADED, FAILED) == FAILED:
            raise LimitError(f"kexec did not load the image: {guest.tail()}")
        return self._execute(place, kimage, found)

    def _arrive(self, place: Placement, name: str) -> Stop:
        """Run to the first instruction of a function of the kernel.

        :raises LimitError: if control does not come there.
        """
        guest = place.guest
        guest.enter()
        if not guest.gdb.run_to([place.address(name)], guest.limit):
            raise LimitError(f"{name} was not entered in {guest.limit:.0f} s: {guest.tail()}")
        return Stop(guest)

    # The load

    def _load(self, place: Placement) -> tuple[Kimage, KexecList | None]:
        checks = self.checks
        stop = self._arrive(place, POST_LOAD)
        kimage = kimage_at(place, stop, stop.general["x0"])
        entries.at_post_load(place, stop, checks)
        entries.objects_apart(place, stop, kimage.control, checks, f"where {POST_LOAD} is entered")
        found = None if kimage.in_place else self._list(place, stop, kimage)
        segments = self._segments(place, kimage)
        try:
            trace = Tracer(place, kimage).trace(place.context.code(POST_LOAD), ())
        except LimitError:
            if fault := place.guest.oops():
                checks.add("callees-by-contract", f"what {POST_LOAD} calls returns", False, fault)
            raise
        after = Stop(place.guest)
        result = after.general["x0"] & 0xFFFF_FFFF
        checks.add("", f"{POST_LOAD} returns 0", result == 0, f"w0 = {result:#x}")
        kimage = kimage_at(place, after, kimage.address)
        self._check_trace(place, kimage, trace)
        if kimage.in_place:
            same = self._segments(place, kimage) == segments
            checks.add("", f"{POST_LOAD} keeps the segments", same, f"{len(segments)} segments")
        if found is not None:
            check_list(place, found, kimage["phys_offset"], kimage["kern_reloc"], checks)
            check_prepared(place, after, kimage, found, trace, checks)
        self._loaded = kimage.raw, place.guest.read(kimage.control, place.linked.page_size), segments
        return kimage, found

    def _list(self, place: Placement, stop: Stop, kimage: Kimage) -> KexecList:
        at = stop.physical(kimage.address + place.linked.layout.head)
        return walk(place.guest, at, kimage["head"], place.linked.page_size)

    @staticmethod
    def _segments(place: Placement, kimage: Kimage) -> list[bytes]:
        """Return a hash of each segment; of one that is not RAM, of nothing."""
        found = []
        for start, size in kimage.segments:
            data = place.guest.read(start, size) if place.guest.is_ram(start, size) else b""
            found.append(hashlib.blake2b(data).digest())
        return found

    def _check_trace(self, place: Placement, kimage: Kimage, trace: Trace) -> None:
        Paths(place, kimage, self.proved).check(f"path of {trace.code.name}", trace.path, self.checks)
        for call in trace.calls:
            check_call(place, call, self.checks)

    # The execution

    def _execute(self, place: Placement, kimage: Kimage, found: KexecList | None) -> str:
        checks, guest = self.checks, place.guest
        stop = self._arrive(place, MACHINE_KEXEC)
        kimage = kimage_at(place, stop, stop.general["x0"])
        if self.change is not None:
            self.change(place, stop, kimage)
            stop = Stop(guest)
            kimage = kimage_at(place, stop, kimage.address)
        where = f"where {MACHINE_KEXEC} is entered"
        self._check_kept(place, kimage, where)
        entries.at_machine_kexec(place, stop, checks)
        entries.objects_apart(place, stop, kimage.control, checks, where)
        check_globals(place, stop, checks)
        check_stub(place, stop, None, where, checks)
        self.differences = check_patches(place, checks, self.proved)
        if found is not None:
            changed = self._list(place, stop, kimage)
            checks.add("", "the list is as it was loaded", changed == found, f"{len(changed.words)} words")
            found = changed
            check_list(place, found, kimage["phys_offset"], kimage["kern_reloc"], checks)
        ends = {kimage["kern_reloc"]} if found is not None else set()
        restart = self._restart(place)
        trace = Tracer(place, kimage).trace(place.context.code(MACHINE_KEXEC), {*ends, restart})
        self._check_trace(place, kimage, trace)
        self._check_vectors_call(trace)
        stop = Stop(guest)
        return self._enter(place, stop, kimage, found)

    def _check_kept(self, place: Placement, kimage: Kimage, where: str) -> None:
        raw, control, segments = self._loaded
        checks = self.checks
        named = sorted(place.linked.layout.named)
        changed = [f"+{at:#x}" for at in named if raw[at : at + 8] != kimage.raw[at : at + 8]]
        checks.add("kimage-kept", where, not changed, ", ".join(changed[:4]) or f"{len(named)} fields")
        now = place.guest.read(kimage.control, place.linked.page_size)
        checks.add("control-page-kept", where, now == control, f"{kimage.control:#x}")
        if kimage.in_place:
            same = self._segments(place, kimage) == segments
            checks.add("segments-kept-clean", f"{where}: their bytes", same, f"{len(segments)} segments")
            checks.add("segments-kept-clean", f"{where}: clean", None, "the emulator has no caches")

    @staticmethod
    def _restart(place: Placement) -> int:
        symbols = [place.kernel.symbol(name) for name in RESTART]
        return next(place.image_to_phys(symbol.address) for symbol in symbols if symbol is not None)

    def _check_vectors_call(self, trace: Trace) -> None:
        calls = trace.called("__hyp_set_vectors")
        if not calls:
            why = "no HVC is executed at this level: nothing lies below the kernel"
            self.checks.add("hvc-returns", "__hyp_set_vectors", None, why)
        for call in calls:
            before, after = call.before.stop.general, call.after.stop.general
            lost = [f"x{i}" for i in range(18, 30) if before[f"x{i}"] != after[f"x{i}"]]
            lost += ["sp"] if before["sp"] != after["sp"] else []
            value = ", ".join(lost) or "x18 to x29 and SP are as they were"
            self.checks.add("hvc-returns", "__hyp_set_vectors", not lost, value)

    def _enter(self, place: Placement, stop: Stop, kimage: Kimage, found: KexecList | None) -> str:
        checks, guest = self.checks, place.guest
        kvm = kvm_distance(place, stop) if found is None else None
        paths = Paths(place, kimage, self.proved, kvm)
        expected = kimage["kern_reloc"] if found is not None else self._restart(place)
        at = "the routine" if found is not None else "the restart code"
        checks.add("", f"{MACHINE_KEXEC} enters {at}", stop.pc == expected, f"{stop.pc:#x}")
        if stop.pc != expected:
            raise LimitError(f"{MACHINE_KEXEC} went to {place.where(stop.pc)}")
        if found is not None:
            entries.at_routine(place, stop, checks)
        else:
            entries.at_restart(place, stop, checks)
        check_stub(place, stop, kimage if found is not None else None, f"where {at} is entered", checks)
        before = guest.snapshot()
        start = kimage["start"]
        if found is not None:
            loop, leaves = self._loop(place, kimage)
            self._step(paths, "path of the routine, up to its loop", {loop, start})
            alive = guest.gdb.general()["pc"] == start or self._run_loop(guest, stop, {*leaves, start})
        else:
            leaves, alive = set(), True
        if alive and guest.gdb.general()["pc"] != start:
            self._step(paths, f"path of {at}, to kimage->start", {start})
            alive = guest.gdb.general()["pc"] == start or run_to_entry(guest, stop, start)
        if not alive:
            self.death = death(place, stop, kimage, found)
            checks.add("", "kimage->start is entered", False, f"the guest died at {self.death.where}")
            return "died"
        end = Stop(guest)
        checks.add("", "kimage->start is entered", True, f"{end.pc:#x} at EL{end.level}")
        check_entry(end, kimage, checks)
        pushed = b"" if kvm is None else struct.pack("<2Q", HVC_SOFT_RESTART, start)
        check_memory(before, guest.snapshot(), found, place.linked.page_size, pushed, checks)
        return "entered"

    @staticmethod
    def _run_loop(guest: Guest, stop: Stop, leaves: set[int]) -> bool:
        """Run the routine's loop over the list; whether control left it where it may."""
        vector = stop.register("vbar_el1") + 0x200
        guest.gdb.run_to([*leaves, vector], guest.limit)
        return guest.gdb.general()["pc"] in leaves

    @staticmethod
    def _loop(place: Placement, kimage: Kimage) -> tuple[int, set[int]]:
        """Return where in the control page the loop over the list begins, and where it is left to."""
        routine, variant = place.routine, place.linked.variant
        start = place.linked_address(routine.copied_from or routine.address)

        def moved(address: int) -> int:
            return address - start + kimage.control

        return moved(variant.loop), {moved(at) for at in variant.exits}

    def _step(self, paths: Paths, what: str, ends: set[int]) -> None:
        """Single-step to one of ``ends``, and check the path; a guest that goes astray is stopped."""
        gdb = paths.place.guest.gdb
        path: list[int] = []
        pc = gdb.general()["pc"]
        while pc not in ends and len(path) < _MOST_STEPS:
            gdb.step()
            now = gdb.general()["pc"]
            if now != pc:  # the stub's single step sometimes stays where it is
                path.append(pc)
            elif path.count(pc) > _MOST_STEPS:
                break
            pc = now
        if pc not in ends:
            self.checks.add("", what, False, f"not at its end after {len(path)} steps")
            return
        paths.check(what, path, self.checks)


def attempt(session: Session) -> Configuration:
    """Run a session; what the tool cannot read of a kernel is a result too."""
    try:
        return session.run()
    except VerifyError as error:
        cpu = session.cpu or LEVELS[session.level].cpu
        return Configuration(
            session.level,
            session.mode,
            cpu,
            "stopped",
            str(error),
            session.checks.records,
            [],
            None,
            0,
            0,
            "",
        )
