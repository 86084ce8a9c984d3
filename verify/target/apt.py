"""The machine's own apt client, pointed at arm64 and at a private state directory.

The host's sources, keys and proxies are read, its state and caches are never written
(apt.conf(5), apt-get(8)). With sources of its own a client reads the host's proxies alone.
"""

import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kexec_verify.errors import TargetError
from kexec_verify.files import home, take_lock

FRESH = 24 * 3600  # seconds
_TIMEOUT = 1800  # seconds; a mirror may be slow, but a hung one must end
_LOCK_LIMIT = 600.0  # seconds; another run may fetch a package over a slow line


def cache_root() -> Path:
    """Return the directory for what can be fetched or computed again (XDG base directories)."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    root = Path(configured) if configured.startswith("/") else home() / ".cache"
    return root / "kexec-verify"


class Apt:
    """An apt client whose state, caches and architecture are its own.

    :param root: the private directory; created when missing.
    :param sources: a directory in it with sources to read in the place of the host's, or None.
    """

    def __init__(self, root: Path, sources: Path | None = None):
        self.root = root
        self.sources = sources
        try:
            for part in ("state/lists/partial", "cache/archives/partial", "log", "none"):
                (root / part).mkdir(parents=True, exist_ok=True)
            if sources is not None:
                sources.mkdir(exist_ok=True)
            status = root / "state" / "status"
            if not status.exists():  # a newer one would have apt make its index again
                status.touch()
            self._config = self._write_config()
        except OSError as error:
            raise TargetError(
                f"{root}: expected a writable cache directory, found: {error.strerror}"
            ) from error

    def _write_config(self) -> Path:
        lines = [
            # Hooks of the host would clean or index the host's own caches.
            "#clear APT::Update::Pre-Invoke;",
            "#clear APT::Update::Post-Invoke;",
            "#clear APT::Update::Post-Invoke-Success;",
            "#clear DPkg::Pre-Invoke;",
            "#clear DPkg::Post-Invoke;",
            "#clear APT::Architectures;",
            'APT::Architecture "arm64";',
            'APT::Architectures { "arm64"; };',
            f'Dir::State "{self.root}/state";',
            f'Dir::State::lists "{self.root}/state/lists";',
            f'Dir::State::status "{self.root}/state/status";',
            f'Dir::Cache "{self.root}/cache";',
            # Container images have apt keep no index, and then each look-up takes a second.
            'Dir::Cache::pkgcache "pkgcache.bin";',
            'Dir::Cache::srcpkgcache "";',
            f'Dir::Log "{self.root}/log";',
            'Acquire::Languages "none";',
            'APT::Get::List-Cleanup "1";',
        ]
        if self.sources is not None:
            lines += [
                # What the host prefers is about its own suites.
                "#clear APT::Default-Release;",
                'Dir::Etc::sourcelist "/dev/null";',
                f'Dir::Etc::sourceparts "{self.sources}";',
                'Dir::Etc::preferences "/dev/null";',
                f'Dir::Etc::preferencesparts "{self.root}/none";',
            ]
        if os.geteuid() == 0:
            # apt's unprivileged user cannot write to root's cache directory.
            lines.append('APT::Sandbox::User "root";')
        text = "\n".join(lines) + "\n"
        path = self.root / "apt.conf"
        if not path.exists() or path.read_text() != text:
            self.write(path, text)
        return path

    def write(self, path: Path, text: str) -> None:
        """Write *text* to *path*, complete or not at all."""
        # Runs in parallel write the same text: each to a file of its own, renamed as a whole.
        handle, temporary = tempfile.mkstemp(dir=self.root, prefix="new.")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory's lock: two runs must not update or fetch at once.

        :raises TargetError: another process keeps it for ten minutes.
        """
        path = self.root / "lock"
        with path.open("w") as file:
            try:
                take_lock(file.fileno(), str(path), _LOCK_LIMIT)
            except TimeoutError as error:
                raise TargetError(f"{path}: {error.strerror}") from error
            yield

    def run(self, tool: str, arguments: Sequence[str], cwd: Path | None = None) -> str:
        """Return what ``apt-get`` or ``apt-cache`` prints.

        :raises TargetError: the tool is missing or fails; the message holds its first error.
        """
        command = [tool, "-q", "-c", str(self._config), *arguments]
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT,
                check=False,
            )
        except FileNotFoundError as error:
            raise TargetError(f"expected {tool} for debian: targets, found none on PATH") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TargetError(f"expected {tool} to answer, found: {error}") from error
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            reason = errors[0] if errors else f"exit status {done.returncode}"
            raise TargetError(f"expected {tool} {arguments[0]} to succeed, found: {reason}")
        return done.stdout

    def refresh(self, force: bool = False) -> bool:
        """Fetch the package lists when they are missing or older than a day, or when forced.

        :returns: whether they were fetched; old lists are kept when fetching fails.
        :raises TargetError: there are no lists and none can be fetched.
        """
        stamp = self.root / "state" / "fetched"
        age = time.time() - stamp.stat().st_mtime if stamp.exists() else None
        if age is not None and age < FRESH and not force:
            return False
        try:
            # A list that cannot be fetched is only a warning to apt by default.
            self.run("apt-get", ["update", "-o", "APT::Update::Error-Mode=any"])
        except TargetError:
            # Offline, or one of several sources is broken: what lists there are will do.
            if not any((self.root / "state" / "lists").glob("*_binary-arm64_Packages*")):
                raise
            return False
        stamp.touch()
        return True

    def download(self, name: str, version: str, size: int, sha256: str, into: Path) -> Path:
        """Fetch one package into the folder *into*, and compare it with what the lists promise.

        :param size: of the archive in bytes; *sha256*: its hash in hexadecimal.
        :raises TargetError: it cannot be fetched, or is another file than the lists promise.
        """
        self.run("apt-get", ["download", f"{name}={version}"], cwd=into)
        archives = list(into.glob("*.deb"))
        if len(archives) != 1:
            raise TargetError(f"expected one package from apt-get, found {len(archives)}")
        with archives[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = archives[0].stat().st_size
        if (found, digest) != (size, sha256):
            raise TargetError(f"expected SHA-256 {sha256}, found {digest} ({found} bytes)")
        return archives[0]


def stanza_fields(stanza: str) -> dict[str, str]:
    """Return the fields of one stanza of the lists by name, in small letters (deb822(5))."""
    found: dict[str, str] = {}
    for line in stanza.splitlines():
        key, separator, value = line.partition(":")
        if separator and not key.startswith(" "):
            found[key.lower()] = value.strip()
    return found
