"""live.json: what came of booting a kernel and holding the proofs' assumptions against it."""

from __future__ import annotations

import enum

import msgspec

SCHEMA = 1
FILE = "live.json"


class Seen(enum.StrEnum):
    """What one check has shown."""

    HELD = "held"
    FALSE = "false"
    UNTESTED = "untested"
    """No check is possible here; the value says why."""


class CheckRecord(msgspec.Struct, frozen=True):
    """One check of one run.

    :param assumption: its identifier in specs/assumptions.py, or "" for what the proofs conclude.
    :param what: which sentence, at which moment.
    :param value: what was seen; where it is false, a witness.
    """

    assumption: str
    what: str
    seen: Seen
    value: str


class DeathRecord(msgspec.Struct, frozen=True):
    """How a guest died: where, and how far the copy had come.

    :param registers: PC, ESR, FAR, ELR and the registers that hold the list machine's state.
    :param word: the word of the list that was executed, in words.
    :param entry: what the routine's tables map the page that it accessed to, in words.
    """

    where: str
    registers: dict[str, int]
    word: str
    entry: str


class DifferenceRecord(msgspec.Struct, frozen=True):
    """One instruction that is not as it is linked when machine_kexec is entered.

    :param address: that it is linked for.
    :param why: what has changed it, or "" if that is not known.
    """

    where: str
    address: int
    linked: str
    running: str
    why: str


class Configuration(msgspec.Struct, frozen=True):
    """One run of the guest.

    :param outcome: ``entered`` if control reached kimage->start, ``died``, or ``stopped`` before that.
    :param reason: why it was stopped.
    :param seconds: wall-clock time; ``cpu_seconds`` is QEMU's CPU time.
    :param console: what the guest printed last.
    """

    level: str
    mode: str
    cpu: str
    outcome: str
    reason: str
    checks: list[CheckRecord]
    differences: list[DifferenceRecord]
    death: DeathRecord | None
    seconds: float
    cpu_seconds: float
    console: str

    @property
    def name(self) -> str:
        """The configuration in one word for each of its parts."""
        return f"{self.mode} {self.level} {self.cpu}"

    def is_false(self, assumption: str) -> bool:
        """Return whether some check has shown that the assumption is false."""
        return any(c.assumption == assumption and c.seen is Seen.FALSE for c in self.checks)

    def is_held(self, assumption: str) -> bool:
        """Return whether the assumption was checked, and no check has shown that it is false."""
        mine = {check.seen for check in self.checks if check.assumption == assumption}
        return Seen.HELD in mine and Seen.FALSE not in mine


class LiveRun(msgspec.Struct, frozen=True):
    """The live runs of one kernel.

    :param sha256: of the kernel's file, as run.json has it.
    :param versions: of QEMU, and of the guest's packages.
    """

    schema: int
    tool: str
    started: str
    name: str
    source: str
    sha256: str
    version: str
    versions: dict[str, str]
    initramfs: str
    configurations: list[Configuration]

    def false_in(self, assumption: str) -> list[Configuration]:
        """Return the configurations in which the assumption was seen to be false."""
        return [each for each in self.configurations if each.is_false(assumption)]

    def held_in(self, assumption: str) -> list[Configuration]:
        """Return the configurations in which the assumption was checked and held."""
        return [each for each in self.configurations if each.is_held(assumption)]

    @property
    def false(self) -> list[str]:
        """The assumptions that were seen to be false, each once, in the order of the checks."""
        found = [
            check.assumption
            for each in self.configurations
            for check in each.checks
            if check.seen is Seen.FALSE and check.assumption
        ]
        return list(dict.fromkeys(found))
