"""Name the line of a policy, or the option, with which a failed gate passes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from kexec_verify.gate.decide import NOT_IN_BASELINE, Decision, Reason, Rule
from kexec_verify.gate.policy import Policy
from kexec_verify.report.plain import plain
from kexec_verify.waivers import OWN


@dataclass(frozen=True)
class Command:
    """The ``verify gate`` command that made the decision.

    :param typed: as it was typed.
    :param policy_path: of its policy; None if it has none.
    """

    typed: str
    policy: Policy
    policy_path: Path | None = None


def remedy(decision: Decision, command: Command) -> str:
    """Return what to add so that the gate passes, in one line.

    Empty if the gate passed, and if an entry in a list does not make it pass: nothing that is refuted or
    undecided is accepted by adding a line.
    """
    reasons = decision.reasons
    if reasons and all(reason.message == NOT_IN_BASELINE for reason in reasons):
        return f"{command.typed} --update-baseline"
    if not reasons or any(reason.rule not in (Rule.WAIVER, Rule.ASSUMPTION) for reason in reasons):
        return ""
    policy, lines = command.policy, []
    waived = [reason for reason in reasons if reason.rule is Rule.WAIVER]
    leaning = {reason.entry for reason in reasons if reason.rule is Rule.ASSUMPTION}
    files = {reason.entry for reason in waived}
    if leaning:
        lines.append(_line("assumptions", policy.assumptions, leaning))
    if waived and policy.waivers is not None:
        lines.append(_line("waivers", policy.waivers, {_id(reason) for reason in waived}))
    elif waived and files & {OWN, ""}:
        return ""  # this tool's own file has no such waiver
    elif waived and not leaning:
        return " ".join([command.typed, *(f"--waivers {shlex.quote(plain(file))}" for file in sorted(files))])
    elif waived:
        lines.append(_line("waiver-files", policy.waiver_files, files))
    where = f"add to {command.policy_path}" if command.policy_path else "add to a policy (--policy FILE)"
    return plain(f"{where}: {'; '.join(lines)}")


def _id(reason: Reason) -> str:
    """Return the property of a reason without its function."""
    return reason.property.partition("@")[0]


def _line(name: str, known: list[str] | None, added: set[str]) -> str:
    """Return the policy's line with the entries that it has and those to add."""
    entries = [*(known or []), *sorted(added)]
    return f"{name} = [{', '.join(json.dumps(entry) for entry in entries)}]"
