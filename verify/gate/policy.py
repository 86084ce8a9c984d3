"""What a gate lets pass: a policy, written by hand in TOML."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

import msgspec
from kexec_verify.errors import UsageError
from kexec_verify.files import read_file

_LIMIT = 1 << 20  # bytes


class Mutants(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a policy requires of the mutants in mutation.json.

    :param at_least: how many mutants must have been tried.
    :param allow_unsupported: a mutant that the verifier refused to model counts as caught.
    """

    at_least: int = 1
    allow_unsupported: bool = False


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a gate lets pass; each entry is a glob, except for those of ``waiver_files``.

    :param required: properties that a run must have; each glob must match one at least.
    :param assumptions: those that a proof may use; None leaves that to the baseline.
    :param waivers: properties whose refutation may be waived; None allows the waivers of specs/waivers.toml.
    :param waiver_files: files of waivers that are allowed like specs/waivers.toml, without ``waivers``;
        relative to the policy's folder in the file, and as a path can be opened once it is read.
    :param same_code: functions whose bytes must be those of the baseline.
    :param mutants: what is required of mutation.json next to run.json; None for nothing.
    :param require_live: each run needs live runs of its bytes, in each of which the guest reached the new
        kernel's entry and nothing was seen to be false.
    """

    required: list[str] = []
    assumptions: list[str] | None = None
    waivers: list[str] | None = None
    waiver_files: list[str] = []
    same_code: list[str] = []
    mutants: Mutants | None = None
    require_live: bool = False


def read_policy(path: Path) -> Policy:
    """Return the policy in ``path``.

    :raises UsageError: if it is no TOML, or has a key that is none of a policy's.
    """
    try:
        found = msgspec.convert(tomllib.loads(read_file(path, _LIMIT).decode()), Policy)
    except OSError as error:
        raise UsageError(f"{path}: expected a policy, found: {error.strerror}") from error
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: expected a policy in TOML, found: {error}") from error
    return msgspec.structs.replace(
        found, waiver_files=[str(path.parent / name) for name in found.waiver_files]
    )


def matches(name: str, globs: list[str]) -> bool:
    """Return whether some glob matches the name."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)
