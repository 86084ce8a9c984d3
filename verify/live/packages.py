"""The guest's programs: Debian packages for arm64, fetched by the tool's own apt and checked by its lists."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.files import read_file
from kexec_verify.target.apt import Apt, stanza_fields
from kexec_verify.target.suites import apt_for

PROGRAMS = ("busybox-static", "kexec-tools")
_MOST_BYTES = 1 << 26
_LIBRARY = re.compile(r"lib[a-z0-9+.-]+|zlib1g")
_DEPENDENCY = re.compile(r"\s*([a-z0-9][a-z0-9+.-]+)")


@dataclass(frozen=True)
class Archive:
    """One package, as apt's signed lists describe it.

    :param size: of its file, in bytes; ``sha256`` of it in hexadecimal.
    :param depends: names of packages that it depends on; of alternatives the first.
    """

    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...]


@dataclass
class Archives:
    """Fetches packages for arm64 from the suites that this machine's apt is configured with."""

    apt: Apt

    def described(self, names: Sequence[str]) -> list[Archive]:
        """Return the packages of these names that the lists have, in the order of ``names``.

        :raises TargetError: if the lists describe one wrongly.
        """
        if not names:
            return []
        text = self.apt.run("apt-cache", ["show", "--no-all-versions", *names])
        found = {}
        for stanza in text.split("\n\n"):
            fields = stanza_fields(stanza)
            if fields.get("package") in names:
                found[fields["package"]] = _archive(fields)
        return [found[name] for name in names if name in found]

    def file(self, archive: Archive) -> Path:
        """Return the package's file, from the cache where its hash is the one that the lists promise.

        :raises TargetError: if it cannot be fetched.
        """
        folder = self.apt.root / "guest"
        path = folder / f"{archive.name}_{archive.sha256[:16]}.deb"
        if not self._is(path, archive):
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.apt.root, prefix="fetch-") as directory:
                fetched = self.apt.download(
                    archive.name, archive.version, archive.size, archive.sha256, Path(directory)
                )
                os.replace(fetched, path)
        return path

    @staticmethod
    def _is(path: Path, archive: Archive) -> bool:
        try:
            return hashlib.sha256(read_file(path, _MOST_BYTES)).hexdigest() == archive.sha256
        except OSError:
            return False


def _archive(fields: dict[str, str]) -> Archive:
    name = fields["package"]
    try:
        sha256, size, version = fields["sha256"].lower(), int(fields["size"]), fields["version"]
    except (KeyError, ValueError) as error:
        raise TargetError(
            f"expected a version, size and SHA-256 of {name} in the lists, found none"
        ) from error
    if fields.get("architecture") not in ("arm64", "all"):
        raise TargetError(f"expected {name} for arm64, found it for {fields.get('architecture')}")
    listed = f"{fields.get('pre-depends', '')},{fields.get('depends', '')}".split(",")
    matches = [match for part in listed if (match := _DEPENDENCY.match(part))]
    return Archive(name, version, sha256, size, tuple(dict.fromkeys(match[1] for match in matches)))


def library_packages(needed: Sequence[str], depends: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the packages to look for shared libraries in, the likeliest first.

    :param needed: sonames, such as ``libz.so.1``. Debian policy, 8.1: libfoo.so.1 is in libfoo1.
    :param depends: names that packages depend on.
    :param known: names that were looked at.
    """
    likely = {name.replace(".so.", "").lower() for name in needed}
    likely |= {name.replace(".so.", "-").lower() for name in needed}
    candidates = [name for name in depends if _LIBRARY.fullmatch(name) and name not in known]
    return sorted(dict.fromkeys(candidates), key=lambda name: name not in likely)


def open_archives() -> Archives:
    """Return the archives of this machine's own suites.

    :raises TargetError: if apt is missing or has no lists.
    """
    if shutil.which("apt-get") is None:
        raise TargetError("expected apt-get for the guest's packages, found none on PATH")
    return Archives(apt_for(None))
