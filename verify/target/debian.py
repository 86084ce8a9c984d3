"""Kernels from Debian packages: fetched, checked against apt's hashes, unpacked, cached.

apt's signed lists name the hash of a package, not of the kernel in it, and unpacking takes seconds.
So a kernel that came out of a package with the hash of the lists is cached with a seal, made with the
user's own key, over the package's name, version and hash and the kernel's hash. At each use the lists
say which hash the package has, and the seal must be the one of that hash and of these bytes.

Not every linux-image package holds a kernel. linux-image-arm64 and its like depend on the newest one;
from 6.19 on, linux-image-X depends on linux-binary-X, which holds it. Dependencies on one version of
such a package are followed.
"""

import hashlib
import hmac
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.files import printable
from kexec_verify.key import seal, user_key
from kexec_verify.near import near
from kexec_verify.target.apt import Apt, stanza_fields
from kexec_verify.target.compressed import MAX_SIZE
from kexec_verify.target.deb import kernel_of
from kexec_verify.target.suites import apt_for, prepare

PREFIX = "debian:"
# A name (Debian policy manual, 5.6.1), a version (5.6.12) where another than apt's choice is meant, and
# a suite where another than the host's is.
_PACKAGE = re.compile(
    r"(?P<name>(?P<package>[a-z0-9][a-z0-9+.-]+)(=(?P<version>[A-Za-z0-9.+:~-]+))?)(/(?P<suite>[^/]*))?"
)
_IMAGE = re.compile(r"linux-image-(?P<abi>\d[^-]*(?:-\d[^-]*)?)-(?P<flavour>[a-z].*|[0-9]+k)")
_HOLDERS = ("linux-binary-", "linux-image-")  # packages that may hold a kernel, the likelier first
_MOST_STEPS = 4  # from linux-image-arm64 to linux-image-X to linux-binary-X
_log = logging.getLogger(__name__)
_NO_IMAGE = ("-dbg", "-unsigned", "-template")
_KIND = "debian kernel"  # of seals


@dataclass(frozen=True)
class Package:
    """A kernel's package, as apt's lists promise it.

    :param version: of it.
    :param sha256: of the archive that holds the kernel; ``size`` of it in bytes.
    :param holder: the package of that archive, where ``package`` only depends on it, or "".
    :param suite: the suite that has it, or "" for the host's own.
    """

    package: str
    version: str
    sha256: str
    size: int
    holder: str = ""
    suite: str = ""

    @property
    def archive(self) -> str:
        """The package whose archive holds the kernel."""
        return self.holder or self.package

    @property
    def flavour(self) -> str:
        """What follows the ABI in its name, such as ``cloud-arm64``."""
        match = _IMAGE.fullmatch(self.package)
        return match["flavour"] if match else ""


def available(suite: str | None = None) -> list[str]:
    """Return the arm64 packages of a suite that are about one kernel image, sorted by version.

    :param suite: such as ``trixie-backports``, or None for the host's own.
    :raises TargetError: apt is missing, or has no lists and cannot fetch any.
    """
    apt = apt_for(suite)
    with apt.locked():
        prepare(apt, suite)
        apt.refresh()
        return _image_names(apt)


def images(suites: Sequence[str] = ()) -> list[Package]:
    """Return each version of each arm64 package that holds a kernel image, or whose linux-binary does.

    Packages that only depend on another image (``linux-image-arm64``) are none. Sorted by version,
    then name. Of packages that several suites have, the first suite's is returned.

    A package that the lists describe wrongly is skipped with a warning; all of a suite must not be.

    :param suites: such as ``trixie-backports``; none for the host's own.
    :raises TargetError: apt is missing, has no lists and cannot fetch any, or its lists describe every
        package of a suite wrongly.
    """
    found: dict[tuple[str, str, str], Package] = {}
    for suite in suites or (None,):
        for package in _images(suite):
            found.setdefault((package.package, package.version, package.sha256), package)
    return sorted(found.values(), key=lambda p: (_version_key(p.version), p.package))


def _images(suite: str | None) -> list[Package]:
    apt = apt_for(suite)
    with apt.locked():
        prepare(apt, suite)
        apt.refresh()
        names = frozenset(_image_names(apt))
        stanzas = _stanzas(apt, sorted(names))
        wanted = [_followed(fields) for fields in stanzas]
        binaries = {one[0] for one in wanted if one and one[0].startswith("linux-binary-")}
        held = {(f.get("package"), f.get("version")): f for f in _stanzas(apt, sorted(binaries))}
    found: list[Package] = []
    skipped: list[str] = []
    for fields, following in zip(stanzas, wanted, strict=True):
        holder = fields if following is None else held.get(following)
        if fields.get("package") not in names or holder is None:
            continue
        try:
            found.append(_promised(fields, holder, suite))
        except TargetError as error:  # the lists have other packages
            shown = f"{fields['package']} {fields.get('version', '')}".rstrip()
            _log.warning("verify: %s is skipped: %s", printable(shown), error)
            skipped.append(f"{printable(shown)}: {error}")
    if skipped and not found:
        raise TargetError(
            f"expected a package with a kernel in apt's lists, found {len(skipped)} that are all malformed, "
            f"the first {skipped[0]}"
        )
    return found


def _stanzas(apt: Apt, names: Sequence[str]) -> list[dict[str, str]]:
    """Return what the lists say of each version of each of *names*."""
    text = apt.run("apt-cache", ["show", *names]) if names else ""
    return [stanza_fields(stanza) for stanza in text.split("\n\n") if stanza.strip()]


def _followed(fields: dict[str, str]) -> tuple[str, str] | None:
    """Return the package, and its version, that has the kernel of the one described, or None if it has it."""
    for prefix in _HOLDERS:
        for dependency in fields.get("depends", "").split(","):
            match = re.fullmatch(r"\s*(\S+) \(= (\S+)\)\s*", dependency)
            if match and match[1].startswith(prefix):
                return match[1], match[2]
    return None


def _image_names(apt: Apt) -> list[str]:
    names = apt.run("apt-cache", ["pkgnames", "linux-image-"]).split()
    return sorted(
        (name for name in names if _IMAGE.fullmatch(name) and not name.endswith(_NO_IMAGE)),
        key=_version_key,
    )


def newest(series: str, flavour: str = "arm64", suite: str | None = None) -> str | None:
    """Return the newest package of a kernel series, or None when there is none.

    :param series: such as ``6.1``.
    :param flavour: what follows the ABI in the name, such as ``arm64-16k`` or ``rt-arm64``.
    :param suite: such as ``trixie-backports``, or None for the host's own.
    """
    for name in reversed(available(suite)):
        match = _IMAGE.fullmatch(name)
        if match and match["flavour"] == flavour and match["abi"].startswith(f"{series}."):
            return name
    return None


def in_suite(target: str, suite: str | None) -> str:
    """Return *target*, in *suite* when it is a ``debian:`` target that names none of its own.

    >>> in_suite("debian:linux-image-arm64", "sid")
    'debian:linux-image-arm64/sid'
    >>> in_suite("vmlinux", "sid")
    'vmlinux'
    """
    named = target.startswith(PREFIX) and "/" not in target
    return f"{target}/{suite}" if suite is not None and named else target


def read(package: str) -> bytes:
    """Return the kernel image that *package* holds, from the cache where the lists vouch for it.

    :param package: its name, with ``=VERSION`` behind it for another version than apt would choose,
        and ``/SUITE`` for another suite than the host's own.
    :raises TargetError: apt or dpkg-deb is missing, the package is unknown or not for arm64, the suite
        is unknown or not signed by Debian's keys, or what was fetched is not what apt's signed lists
        promise.
    """
    match = _PACKAGE.fullmatch(package)
    if not match:
        raise TargetError(f"{PREFIX}{package}: expected a Debian package's name after {PREFIX}")
    try:
        suite = match["suite"]
        apt = apt_for(suite)
        with apt.locked():
            prepare(apt, suite)
            record = _record(apt, match["name"], suite)
            data = _held(apt, record)
            return data if data is not None else _fetched(apt, record)
    except TargetError as error:
        raise TargetError(f"{PREFIX}{package}: {error}") from error
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise TargetError(f"{PREFIX}{package}: expected room in the cache, found: {reason}") from error


def is_cached(package: Package) -> bool:
    """Return whether the kernel image of *package* is unpacked in the cache."""
    return (_place(apt_for(package.suite or None), package) / "vmlinuz").exists()


def drop(package: Package) -> None:
    """Take the kernel image of *package* out of the cache; one that is not there is no error."""
    apt = apt_for(package.suite or None)
    with apt.locked():
        shutil.rmtree(_place(apt, package), ignore_errors=True)


def _place(apt: Apt, record: Package) -> Path:
    version = record.version.replace(":", "_")
    return apt.root / "kernels" / f"{record.archive}_{version}_{record.sha256[:16]}"


def _record(apt: Apt, package: str, suite: str | None) -> Package:
    """Return what the lists know of *package*, fetching them anew before giving up."""
    fetched = apt.refresh()
    fields = _show(apt, package)
    if not fields and not fetched:
        apt.refresh(force=True)
        fields = _show(apt, package)
    if not fields:
        where = f"the suite {suite}" if suite else "the host's suites"
        found = f"expected a package of {where}, found none of that name or version"
        if any((apt.root / "kernels").glob(f"{package.replace('=', '_')}_*")):
            # Only the lists say which bytes are this package's.
            found += "; its cached kernel cannot be checked: name another version, or the kernel's file"
        else:
            found += _similar(apt, package)
            found += "; one of another suite is debian:PACKAGE/SUITE" if suite is None else ""
        raise TargetError(found)
    image = fields
    for _ in range(_MOST_STEPS):
        following = _followed(fields)
        if following is None:
            return _promised(image, fields, suite)
        name, version = following
        fields = _show(apt, f"{name}={version}")
        if not fields:
            raise TargetError(f"expected {name} {version}, which it depends on, in the lists, found none")
        if name.startswith("linux-image-"):
            image = fields
    raise TargetError("expected a package with a kernel, found only packages that depend on others")


def _similar(apt: Apt, package: str) -> str:
    """Return near names of a package that the lists lack, or its versions there if only that is wrong."""
    name, _, version = package.partition("=")
    known = _image_names(apt)
    if not version or name not in known:
        return near(name, known)
    return f"; its versions: {', '.join(fields.get('version', '?') for fields in _stanzas(apt, [name]))}"


def _promised(image: dict[str, str], holder: dict[str, str], suite: str | None) -> Package:
    """Return the package that the stanza *image* of the lists describes, its kernel in that of *holder*.

    :raises TargetError: it is not for arm64, or a field is missing or malformed.
    """
    try:
        architecture = holder["architecture"]
        sha256, size = holder["sha256"].lower(), int(holder["size"])
        names = image["package"], holder["package"]
        record = Package(
            names[0], image["version"], sha256, size, "" if names[0] == names[1] else names[1], suite or ""
        )
        version = holder["version"]
    except (KeyError, ValueError) as error:
        raise TargetError("expected a version, size and SHA-256 in the lists, found none") from error
    if architecture != "arm64":
        raise TargetError(f"expected an arm64 package, found one for {architecture}")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or "/" in record.version:
        raise TargetError("expected a version, size and SHA-256 in the lists, found them malformed")
    if version != record.version:
        raise TargetError(f"expected version {record.version} of {names[1]}, found {version}")
    return record


def _show(apt: Apt, package: str) -> dict[str, str]:
    try:
        text = apt.run("apt-cache", ["show", "--no-all-versions", package])
    except TargetError as error:
        if "No packages found" in str(error):
            return {}
        raise
    fields = stanza_fields(text.split("\n\n", 1)[0])
    return fields if fields.get("package") == package.partition("=")[0] else {}


def _held(apt: Apt, record: Package) -> bytes | None:
    """Return the cached kernel of the package if its seal is that of the hash that the lists name."""
    place = _place(apt, record)
    key = user_key()
    try:
        if key is None or not (place / "vmlinuz").is_file() or not (place / "seal").is_file():
            return None
        if max((place / name).stat().st_size for name in ("vmlinuz", "seal")) > MAX_SIZE:
            return None
        given = (place / "seal").read_bytes()
        data = (place / "vmlinuz").read_bytes()
    except OSError:
        return None
    return data if hmac.compare_digest(given, _seal(key, record, data)) else None


def _seal(key: bytes, record: Package, data: bytes) -> bytes:
    """Return the seal that says: *data* is the kernel of the package that *record* describes."""
    name = f"{record.archive}\0{record.version}\0{record.sha256}".encode()
    return seal(key, _KIND, name, hashlib.sha256(data).digest())


def _fetched(apt: Apt, record: Package) -> bytes:
    """Fetch the package and cache its kernel; say of one that is cached already why it was not used."""
    place = _place(apt, record)
    unsealed = (place / "vmlinuz").exists()
    try:
        return _unpack_into(apt, record, place)
    except TargetError as error:
        if not unsealed:
            raise
        raise TargetError(f"{error}; the kernel in {place} has no true seal and is not used") from error


def _unpack_into(apt: Apt, record: Package, place: Path) -> bytes:
    """Fetch the package, leave its kernel in *place*, complete or not at all, and return it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in apt.root.glob("fetch-*"):  # by a run that was killed: the lock is ours
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=apt.root, prefix="fetch-") as directory:
        work = Path(directory)
        archive = apt.download(record.archive, record.version, record.size, record.sha256, work)
        ready = work / "ready"
        ready.mkdir()
        data = kernel_of(archive)
        _write(ready / "vmlinuz", data)
        key = user_key()
        if key is not None:  # without one the kernel is fetched again each time
            _write(ready / "seal", _seal(key, record, data))
        if place.exists():
            shutil.rmtree(place)
        os.replace(ready, place)
        return data


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _version_key(package: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number) for number in re.findall(r"\d+", package)), package
