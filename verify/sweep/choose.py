"""Which of the kernels that apt knows a sweep is about."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from kexec_verify.errors import UsageError
from kexec_verify.target.debian import PREFIX, Package

_STEM = "linux-image-"


def chosen(packages: Sequence[Package], globs: Sequence[str]) -> list[Package]:
    """Return the packages that some glob matches, in their order; all of them without a glob.

    A glob is matched with the package's name, with that without ``linux-image-``, and with its version.

    :raises UsageError: if a glob matches none, or there is no package at all.
    """
    if not packages:
        raise UsageError("expected kernels in the suites to sweep, found none")
    for glob in globs:
        if not any(_matches(package, glob) for package in packages):
            first, last = _short(packages[0]), _short(packages[-1])
            raise UsageError(
                f"expected a kernel that apt knows, found {glob!r}, which matches none of "
                f"{len(packages)} from {first} to {last}; `verify sweep --list` names them"
            )
    return [p for p in packages if not globs or any(_matches(p, glob) for glob in globs)]


def _matches(package: Package, glob: str) -> bool:
    names = package.package, _short(package), package.version
    return any(fnmatch.fnmatchcase(name, glob) for name in names)


def _short(package: Package) -> str:
    return package.package.removeprefix(_STEM)


def targets(packages: Sequence[Package], known: Sequence[Package]) -> dict[Package, str]:
    """Return the target's name of each package, with its suite where that is not the host's own.

    It has its version where ``known`` has several.
    """
    names = [package.package for package in known]
    return {
        package: f"{PREFIX}{package.package}"
        + (f"={package.version}" if names.count(package.package) > 1 else "")
        + (f"/{package.suite}" if package.suite else "")
        for package in packages
    }


def in_order(packages: Sequence[Package]) -> list[Package]:
    """Return the packages with those of one flavour together, which share most queries."""
    return sorted(packages, key=lambda p: (p.version.split(".")[:2], p.flavour))
