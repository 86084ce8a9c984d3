"""Kernels from Debian packages: fetched, checked against apt's hashes, unpacked, cached.

apt's signed lists name the hash of a package, not of the kernel in it, and unpacking takes seconds.
So a kernel that came out of a package with the hash of the lists is cached with a seal, made with the
user's own key, over the package's name, version and hash and the kernel's hash. At each use the lists
say which hash the package has, and the seal must be the one of that hash and of these bytes.
"""

import hashlib
import hmac
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kexec_verify.errors import TargetError
from kexec_verify.key import seal, user_key
from kexec_verify.target.apt import Apt, cache_root
from kexec_verify.target.compressed import MAX_SIZE

PREFIX = "debian:"
# A name (Debian policy manual, 5.6.1), and a version (5.6.12) where another than apt's choice is meant.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_IMAGE = re.compile(r"linux-image-(?P<abi>\d[^-]*(?:-\d+)?)-(?P<flavour>[a-z].*|[0-9]+k)")
_NO_IMAGE = ("-dbg", "-unsigned", "-template")
_KIND = "debian kernel"  # of seals
_READ_WHOLE = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_LARGEST_HEADER = 1 << 16  # bytes
_MOST_MEMBERS = 100_000  # the largest packages have some 5,000


@dataclass(frozen=True)
class Package:
    """A kernel's package, as apt's lists promise it; ``size`` of the archive in bytes."""

    package: str
    version: str
    sha256: str
    size: int

    @property
    def flavour(self) -> str:
        """What follows the ABI in its name, such as ``cloud-arm64``."""
        match = _IMAGE.fullmatch(self.package)
        return match["flavour"] if match else ""


def available() -> list[str]:
    """Return the arm64 packages of the host's suites that hold one kernel image, sorted by version.

    :raises TargetError: apt is missing, or has no lists and cannot fetch any.
    """
    apt = Apt(cache_root() / "debian")
    with apt.locked():
        apt.refresh()
        return _image_names(apt)


def images() -> list[Package]:
    """Return each version of each arm64 package of the host's suites that holds a kernel image.

    Packages that only depend on an image (``linux-image-arm64``) are none. Sorted by version,
    then name.

    :raises TargetError: apt is missing, or has no lists and cannot fetch any.
    """
    apt = Apt(cache_root() / "debian")
    with apt.locked():
        apt.refresh()
        names = _image_names(apt)
        text = apt.run("apt-cache", ["show", *names]) if names else ""
    found = set()
    for stanza in text.split("\n\n"):
        fields = _fields(stanza)
        if fields.get("package") in names and "linux-image-" not in fields.get("depends", ""):
            found.add(_promised(fields))
    return sorted(found, key=lambda p: (_version_key(p.version), p.package))


def _image_names(apt: Apt) -> list[str]:
    names = apt.run("apt-cache", ["pkgnames", "linux-image-"]).split()
    return sorted(
        (name for name in names if _IMAGE.fullmatch(name) and not name.endswith(_NO_IMAGE)),
        key=_version_key,
    )


def newest(series: str, flavour: str = "arm64") -> str | None:
    """Return the newest package of a kernel series, or None when the suites hold none.

    :param series: such as ``6.1``.
    :param flavour: what follows the ABI in the name, such as ``arm64-16k`` or ``rt-arm64``.
    """
    for name in reversed(available()):
        match = _IMAGE.fullmatch(name)
        if match and match["flavour"] == flavour and match["abi"].startswith(f"{series}."):
            return name
    return None


def read(package: str) -> bytes:
    """Return the kernel image that *package* holds, from the cache where the lists vouch for it.

    :param package: its name, with ``=VERSION`` behind it for another version than apt would choose.
    :raises TargetError: apt or dpkg-deb is missing, the package is unknown or not for arm64, or
        what was fetched is not what apt's signed lists promise.
    """
    if not _PACKAGE.fullmatch(package):
        raise TargetError(f"{PREFIX}{package}: expected a Debian package's name after {PREFIX}")
    try:
        apt = Apt(cache_root() / "debian")
        with apt.locked():
            record = _record(apt, package)
            data = _held(apt, record)
            return data if data is not None else _fetched(apt, record)
    except TargetError as error:
        raise TargetError(f"{PREFIX}{package}: {error}") from error
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise TargetError(f"{PREFIX}{package}: expected room in the cache, found: {reason}") from error


def is_cached(package: Package) -> bool:
    """Return whether the kernel image of *package* is unpacked in the cache."""
    return (_place(Apt(cache_root() / "debian"), package) / "vmlinuz").exists()


def drop(package: Package) -> None:
    """Take the kernel image of *package* out of the cache; one that is not there is no error."""
    apt = Apt(cache_root() / "debian")
    with apt.locked():
        shutil.rmtree(_place(apt, package), ignore_errors=True)


def _place(apt: Apt, record: Package) -> Path:
    version = record.version.replace(":", "_")
    return apt.root / "kernels" / f"{record.package}_{version}_{record.sha256[:16]}"


def _record(apt: Apt, package: str) -> Package:
    """Return what the lists know of *package*, fetching them anew before giving up."""
    fetched = apt.refresh()
    fields = _show(apt, package)
    if not fields and not fetched:
        apt.refresh(force=True)
        fields = _show(apt, package)
    if not fields:
        found = "expected a package of the host's suites, found none of that name or version"
        if any((apt.root / "kernels").glob(f"{package.replace('=', '_')}_*")):
            # Only the lists say which bytes are this package's.
            found += "; its cached kernel cannot be checked: name another version, or the kernel's file"
        raise TargetError(found)
    return _promised(fields)


def _promised(fields: dict[str, str]) -> Package:
    """Return the package that a stanza of the lists describes.

    :raises TargetError: it is not for arm64, or a field is missing or malformed.
    """
    try:
        architecture = fields["architecture"]
        record = Package(fields["package"], fields["version"], fields["sha256"].lower(), int(fields["size"]))
    except (KeyError, ValueError) as error:
        raise TargetError("expected a version, size and SHA-256 in the lists, found none") from error
    if architecture != "arm64":
        raise TargetError(f"expected an arm64 package, found one for {architecture}")
    if not re.fullmatch(r"[0-9a-f]{64}", record.sha256) or "/" in record.version:
        raise TargetError("expected a version, size and SHA-256 in the lists, found them malformed")
    return record


def _show(apt: Apt, package: str) -> dict[str, str]:
    try:
        text = apt.run("apt-cache", ["show", "--no-all-versions", package])
    except TargetError as error:
        if "No packages found" in str(error):
            return {}
        raise
    fields = _fields(text.split("\n\n", 1)[0])
    return fields if fields.get("package") == package.partition("=")[0] else {}


def _fields(stanza: str) -> dict[str, str]:
    """Return the fields of one stanza of the lists by name, in small letters (deb822(5))."""
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        key, separator, value = line.partition(":")
        if separator and not key.startswith(" "):
            fields[key.lower()] = value.strip()
    return fields


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
    name = f"{record.package}\0{record.version}\0{record.sha256}".encode()
    return seal(key, _KIND, name, hashlib.sha256(data).digest())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        apt.run("apt-get", ["download", f"{record.package}={record.version}"], cwd=work)
        archives = list(work.glob("*.deb"))
        if len(archives) != 1:
            raise TargetError(f"expected one package from apt-get, found {len(archives)}")
        size, digest = archives[0].stat().st_size, _sha256(archives[0])
        if (size, digest) != (record.size, record.sha256):
            raise TargetError(f"expected SHA-256 {record.sha256}, found {digest} ({size} bytes)")
        ready = work / "ready"
        ready.mkdir()
        data = _kernel_of(archives[0])
        _write(ready / "vmlinuz", data)
        key = user_key()
        if key is not None:  # without one the kernel is fetched again each time
            _write(ready / "seal", _seal(key, record, data))
        if place.exists():
            shutil.rmtree(place)
        os.replace(ready, place)
        return data


def _kernel_of(archive: Path) -> bytes:
    """Return the one ./boot/vmlinuz-* of *archive*."""
    with _members(archive) as members:
        for member, content in members:
            name = member.name.removeprefix("./")
            if not member.isreg() or not re.fullmatch(r"boot/vmlinuz-[^/]+", name):
                continue
            if member.size > MAX_SIZE:
                raise TargetError(f"expected at most {MAX_SIZE} bytes, found {member.size}")
            stream = content.extractfile(member)
            if stream is not None:
                data = stream.read(member.size)
                if len(data) != member.size:
                    raise TargetError(f"expected a kernel of {member.size} bytes, found {len(data)}")
                return data
    raise TargetError("expected a kernel at ./boot/vmlinuz-*, found none in the package")


class _Header(tarfile.TarInfo):
    """A member's header; one that holds a name or attributes is read into memory as a whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _READ_WHOLE and found.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]]:
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise TargetError("expected dpkg-deb for debian: targets, found none on PATH") from error
    try:
        with worker, tarfile.open(fileobj=worker.stdout, mode="r|", tarinfo=_Header) as tar:
            yield ((member, tar) for member, _ in zip(tar, range(_MOST_MEMBERS), strict=False))
            # Only one member is wanted: the rest of the package need not be unpacked.
            worker.kill()
    except tarfile.TarError as error:
        raise TargetError(f"expected an intact package, found: {error}") from error
    finally:
        worker.kill()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _version_key(package: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number) for number in re.findall(r"\d+", package)), package
