"""The folder that a target's report is written to: one for each target, also where several have one name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import msgspec
from kexec_verify.files import JSON_LIMIT, decode_json, printable, read_file, safe_name
from kexec_verify.report.model import TargetRecord
from kexec_verify.report.save import RUN
from kexec_verify.target import STDIN
from kexec_verify.target.debian import PREFIX

_DIGITS = 8  # of the location, in a folder's name


class _Head(msgspec.Struct, frozen=True):
    """The part of a run.json that says which target it is of."""

    target: TargetRecord


def location_of(source: str) -> str:
    """Return what tells the target *source* apart from another of the same short name.

    It is SHA-256, in hexadecimal, of the file's resolved path; of *source* itself where that is a Debian
    package or standard input.
    """
    text = printable(source)
    if source != STDIN and not source.startswith(PREFIX):
        with suppress(OSError, RuntimeError, ValueError):  # a loop of links, or a NUL: opening it says why
            text = printable(str(Path(source).resolve()))
    return hashlib.sha256(text.encode()).hexdigest()


def report_folder(
    reports: Path, name: str, source: str, taken: Mapping[Path, str] = MappingProxyType({})
) -> Path:
    """Return the folder in *reports* for the report of a target.

    It has the target's name. If that folder holds the run of another target of the same name, the first
    digits of the target's location are appended. So the same file has the same folder again, and files of
    one name do not replace each other's reports.

    :param name: the target's short name.
    :param source: the target as the user typed it.
    :param taken: locations of targets by folder, for reports that are not written yet.
    """
    location = location_of(source)
    plain = reports / safe_name(name)
    if taken.get(plain, _holds(plain)) in ("", location):
        return plain
    return reports / safe_name(f"{plain.name}-{location[:_DIGITS]}")


def _holds(folder: Path) -> str:
    """Return the location of the target whose run *folder* holds; empty if it holds none."""
    try:
        target = decode_json(read_file(folder / RUN, JSON_LIMIT), _Head).target
    except (OSError, msgspec.DecodeError):
        return ""
    return target.location or location_of(target.source)
