"""Debian's other suites, from the archives that the host's apt is configured with.

A host is configured with the suites of one release. Its archives have the others, too: the host's
sources say where an archive is, Debian's own keyring says who signs it.
"""

import re
import time
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.target.apt import FRESH, Apt, cache_root

_SUITE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SECURITY = "-security"
_KEYRINGS = (  # of the package debian-archive-keyring, in Debian 13 and before
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
_FIELDS = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"


def apt_for(suite: str | None) -> Apt:
    """Return an apt client for one suite, or for the host's own sources.

    :param suite: such as ``trixie-backports``, or None for the host's own.
    :raises TargetError: it is no suite's name, the host's sources have none of Debian's archives that
        could hold it, or the cache is not writable.
    """
    root = cache_root() / "debian"
    if suite is None:
        return Apt(root)
    if not _SUITE.fullmatch(suite):
        raise TargetError(f"expected a Debian suite such as trixie-backports, found {suite!r}")
    place = root / "suites" / suite
    return Apt(place, place / "sources")


def prepare(apt: Apt, suite: str | None) -> None:
    """Write the sources of *suite*, so that *apt*, which is locked, can fetch its lists.

    :raises TargetError: the host's sources have none of Debian's archives that could hold it.
    """
    if suite is None or apt.sources is None:
        return
    path = apt.sources / "debian.sources"
    if path.exists() and time.time() - path.stat().st_mtime < FRESH:
        return
    try:
        archive = _archive(suite)
    except TargetError:
        if path.exists():  # offline: as it was
            return
        raise
    keyring = next((name for name in _KEYRINGS if Path(name).is_file()), None)
    lines = ["Types: deb", f"URIs: {archive}", f"Suites: {suite}", "Components: main"]
    if keyring is not None:  # else apt takes the keys that it trusts for every archive
        lines.append(f"Signed-By: {keyring}")
    apt.write(path, "\n".join(lines) + "\n")


def _archive(suite: str) -> str:
    """Return the address of the archive among the host's sources that would hold *suite*."""
    label = "Debian-Security" if suite.endswith(_SECURITY) else "Debian"
    host = apt_for(None)
    with host.locked():
        host.refresh()
        listed = host.run("apt-get", ["indextargets", "--format", _FIELDS, "Identifier: Packages"])
    for line in listed.splitlines():
        origin, _, rest = line.partition("|")
        named, _, address = rest.partition("|")
        if (origin, named) == ("Debian", label) and re.fullmatch(r"[a-z+]+:[!-~]+", address):
            return address
    raise TargetError(f"expected an archive of {label} among this machine's sources, found none")
