"""Debian targets, against stand-ins for apt and dpkg-deb that answer from files."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest
from kexec_verify.errors import TargetError
from kexec_verify.target import apt, deb, debian, open_target, read_target, suites

PACKAGE = "linux-image-6.1.0-56-arm64"
TOOL = """#!/bin/sh
echo "$0 $*" >> {root}/log
case "$*" in
*" update "*) [ -e {root}/offline ] && {{ cat {root}/offline >&2; exit 100; }}; exit 0;;
*" pkgnames "*) cat {root}/names;;
*" indextargets "*) cat {root}/archives;;
*" show --no-all-versions "*)
    for asked; do :; done
    [ -e {root}/records ] && asked={root}/records/$asked || asked={root}/record
    cat "$asked" 2>/dev/null || {{ echo "E: No packages found" >&2; exit 100; }};;
*" show "*) cat {root}/record 2>/dev/null || {{ echo "E: No packages found" >&2; exit 100; }};;
*" download "*) cp {root}/archive ./fetched.deb;;
*--fsys-tarfile*) cat "$2";;
esac
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose apt serves one package, from the directory that is returned."""
    root = tmp_path / "host"
    root.mkdir()
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        path = root / tool
        path.write_text(TOOL.format(root=root))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{root}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return root


def serve(root: Path, members: list[tuple[tarfile.TarInfo, bytes]], **changes: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    archive = stream.getvalue()
    fields = {
        "Package": PACKAGE,
        "Version": "6.1.192-2",
        "Architecture": "arm64",
        "Size": str(len(archive)),
        "SHA256": hashlib.sha256(archive).hexdigest(),
    } | changes
    (root / "archive").write_bytes(archive)
    (root / "record").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (root / "names").write_text("")


def kernel_member(name: str = "./boot/vmlinuz-6.1.0-56-arm64") -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def cached_all(root: Path) -> list[Path]:
    return sorted((root.parent / "cache").rglob("vmlinuz"))


def cached(root: Path) -> Path:
    """The one kernel in the cache."""
    (path,) = cached_all(root)
    return path


def calls(root: Path, word: str) -> int:
    return (root / "log").read_text().count(f" {word} ")


def test_package_is_fetched_once_and_opened_from_the_cache(host, make):
    serve(host, [(tarfile.TarInfo("./boot/config"), b"no"), (kernel_member(), make.image())])
    for _ in range(2):
        kernel = open_target(f"debian:{PACKAGE}")
        assert (kernel.name, kernel.source) == (PACKAGE, f"debian:{PACKAGE}")
        assert kernel.symbol("_text").address == make.base
    assert (calls(host, "update"), calls(host, "download")) == (1, 1)


def test_corrupt_cache_entry_is_fetched_again(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    cached(host).write_bytes(b"corrupt")
    assert debian.read(PACKAGE) == make.image()
    assert cached(host).read_bytes() == make.image()
    assert calls(host, "download") == 2


def other_bytes(path: Path, data: bytes) -> None:
    """Put *data* in the place of a cached kernel, and of everything beside it that one can compute."""
    path.write_bytes(data)
    digest = hashlib.sha256(data)
    (path.parent / "sha256").write_text(digest.hexdigest() + "\n")
    (path.parent / "seal").write_bytes(digest.digest())


def test_swapped_kernel_and_hash_are_not_verified_under_the_package_s_name(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    other_bytes(cached(host), make.image(flags=2))
    kernel, _ = read_target(f"debian:{PACKAGE}")
    assert kernel == make.image()
    (host / "archive").unlink()  # offline
    other_bytes(cached(host), make.image(flags=2))
    with pytest.raises(
        TargetError, match=f"^debian:{PACKAGE}: expected .* has no true seal and is not used$"
    ):
        debian.read(PACKAGE)


def test_kernel_of_another_package_is_not_taken_for_this_one(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    first = cached(host).parent
    serve(host, [(kernel_member(), make.image(flags=2))], Version="6.1.193-1")
    debian.read(PACKAGE)
    (second,) = {path.parent for path in cached_all(host)} - {first}
    for name in ("vmlinuz", "seal"):
        (second / name).write_bytes((first / name).read_bytes())
    assert debian.read(PACKAGE) == make.image(flags=2)
    assert calls(host, "download") == 3


def test_lists_that_name_another_hash_are_asked_each_time(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    serve(host, [(kernel_member(), make.image(flags=2))])
    assert debian.read(PACKAGE) == make.image(flags=2)
    # The name of the place has only a part of the hash.
    record = (host / "record").read_text()
    digest = record.split("SHA256: ")[1].split()[0]
    (host / "record").write_text(record.replace(digest, digest[:16] + "0" * 48))
    with pytest.raises(TargetError, match=r"expected SHA-256 \w{16}0000"):
        debian.read(PACKAGE)


def test_cached_kernel_that_the_lists_have_no_longer_is_an_error(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    (host / "record").unlink()
    for name in (PACKAGE, f"{PACKAGE}=6.1.192-2"):
        with pytest.raises(
            TargetError, match="found none of that name or version; its cached kernel cannot be"
        ):
            debian.read(name)


def test_cached_kernel_is_used_offline_as_long_as_the_lists_have_it(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    (host / "offline").write_text("E: no network")
    (host / "archive").unlink()
    assert debian.read(PACKAGE) == make.image()
    assert calls(host, "show") == 2, "held against the lists each time"


def test_without_a_key_nothing_cached_is_believed(host, make, monkeypatch):
    monkeypatch.delenv("KEXEC_VERIFY_CACHE_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null")
    serve(host, [(kernel_member(), make.image())])
    for _ in range(2):
        assert debian.read(PACKAGE) == make.image()
    assert calls(host, "download") == 2


def test_parallel_runs_fetch_once(host, make):
    serve(host, [(kernel_member(), make.image())])
    threads = [threading.Thread(target=debian.read, args=(PACKAGE,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert debian.read(PACKAGE) == make.image()
    assert calls(host, "download") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SHA256": "0" * 64}, "expected SHA-256 0000"),
        ({"Size": "1"}, "expected SHA-256"),
        ({"Size": "many"}, "expected a version, size and SHA-256"),
        ({"SHA256": "../../etc"}, "malformed"),
        ({"Version": "../../etc"}, "malformed"),
        ({"Architecture": "all"}, "expected an arm64 package, found one for all"),
        ({"Package": "other"}, "found none of that name"),
    ],
)
def test_records_and_archives_that_disagree_are_refused(host, make, changes, message):
    serve(host, [(kernel_member(), make.image())], **changes)
    with pytest.raises(TargetError, match=f"^debian:{PACKAGE}: .*{message}"):
        debian.read(PACKAGE)
    assert not list((host.parent / "cache").rglob("vmlinuz")), "nothing half-written"


def test_only_a_regular_file_directly_in_boot_is_taken(host):
    link = kernel_member()
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = kernel_member("./boot/vmlinuz-../../../outside")
    serve(host, [(link, b""), (outside, b"bad"), (kernel_member("/etc/vmlinuz-6.1"), b"bad")])
    with pytest.raises(TargetError, match=r"expected a kernel at ./boot/vmlinuz"):
        debian.read(PACKAGE)
    assert not list(host.parent.rglob("outside"))


def test_archive_that_is_no_package_is_refused(host):
    serve(host, [])
    archive = b"no tar " * 100
    (host / "archive").write_bytes(archive)
    record = (host / "record").read_text().splitlines()[:3]
    record += [f"Size: {len(archive)}", f"SHA256: {hashlib.sha256(archive).hexdigest()}"]
    (host / "record").write_text("\n".join(record))
    with pytest.raises(TargetError, match="expected an intact package"):
        debian.read(PACKAGE)


def test_unknown_package_is_looked_for_in_new_lists(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    (host / "record").unlink()
    with pytest.raises(TargetError, match="found none of that name or version; one of another suite is"):
        debian.read("linux-image-7")
    assert calls(host, "update") == 2


def test_unknown_package_is_answered_with_near_names(host, make):
    serve(host, [(kernel_member(), make.image())], Package="other")
    (host / "names").write_text("linux-image-6.1.0-55-arm64\nlinux-image-arm64\n")
    with pytest.raises(TargetError, match=r"name or version; near names: linux-image-6.1.0-55-arm64; one of"):
        debian.read(PACKAGE)


def test_unknown_version_is_answered_with_those_that_there_are(host, make):
    serve(host, [(kernel_member(), make.image())], Version="6.1.0-1", Package=f"{PACKAGE}")
    (host / "names").write_text(f"{PACKAGE}\n")
    record = (host / "record").read_text()
    (host / "record").write_text(record.replace(f"Package: {PACKAGE}", "Package: other"))
    with pytest.raises(TargetError, match=r"name or version; its versions: 6.1.0-1; one of"):
        debian.read(f"{PACKAGE}=6.1.1")


def test_offline_without_lists_says_so(host):
    (host / "offline").write_text("E: no network")
    with pytest.raises(TargetError, match="expected apt-get update to succeed, found: E: no network"):
        debian.read(PACKAGE)


@pytest.mark.parametrize("name", ["", "-o", "A b", "../x", "x;y", "x=1", "ab/sid/x", "ab=/sid"])
def test_what_is_no_package_name_never_reaches_apt(host, name):
    with pytest.raises(TargetError, match="expected a Debian package's name"):
        debian.read(name)
    assert not (host / "log").exists()


def test_missing_apt_is_named(host, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(TargetError, match="expected apt-get for debian: targets, found none on PATH"):
        debian.read(PACKAGE)


def test_unwritable_cache_is_named(host, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(TargetError, match="expected a writable cache directory"):
        debian.read(PACKAGE)


def test_newest_counts_numbers_as_numbers(host):
    names = """linux-image-6.1.0-9-arm64 linux-image-6.1.0-56-arm64 linux-image-6.1.0-56-arm64-dbg
    linux-image-arm64 linux-image-6.1.0-57-rt-arm64 linux-image-6.12.9+deb12-arm64-16k
    linux-image-6.12.117+deb12-arm64-16k linux-image-6.12.117+deb12-arm64-unsigned
    linux-image-arm64-signed-template linux-image-6.12.30+deb12-arm64"""
    (host / "names").write_text(names)
    assert debian.newest("6.1") == "linux-image-6.1.0-56-arm64"
    assert debian.newest("6.12") == "linux-image-6.12.30+deb12-arm64"
    assert debian.newest("6.12", "arm64-16k") == "linux-image-6.12.117+deb12-arm64-16k"
    assert debian.newest("5.10") is None
    assert len(debian.available()) == 6


def test_state_of_the_host_is_never_written(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    config = host.parent / "cache" / "kexec-verify" / "debian" / "apt.conf"
    for line in (host / "log").read_text().splitlines():
        if "apt-" in line.split()[0]:
            assert f"-c {config}" in line
    private = [line.split() for line in config.read_text().splitlines() if line.startswith("Dir::")]
    # A name without a folder is one in Dir::Cache.
    assert private and all(str(config.parent) in value or "/" not in value for _, value in private)
    assert os.access(config, os.R_OK)


def test_index_of_the_lists_stays_valid(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    root = host.parent / "cache" / "kexec-verify" / "debian"
    assert 'Dir::Cache::pkgcache "pkgcache.bin";' in (root / "apt.conf").read_text()
    os.utime(root / "state" / "status", (1, 1))
    debian.read(PACKAGE)
    assert (root / "state" / "status").stat().st_mtime == 1


STANZAS = [
    ("linux-image-6.1.0-9-arm64", "6.1.27-1", "kmod, linux-base (>= 4.3~)"),
    ("linux-image-6.1.0-56-arm64", "6.1.192-2", "kmod"),
    ("linux-image-6.1.0-56-arm64", "6.1.190-1", "kmod"),
    ("linux-image-6.12-arm64", "6.12.117-1~deb12u1", "linux-image-6.12.117+deb12-arm64 (= 6.12.117-1)"),
    ("linux-image-6.12.117+deb12-arm64-16k", "6.12.117-1~deb12u1", "kmod"),
]


def list_images(root: Path, **changes: str) -> None:
    """Have apt know the packages of STANZAS, and others that hold no image."""
    names = [*dict.fromkeys(name for name, _, _ in STANZAS), "linux-image-6.1.0-56-arm64-dbg"]
    (root / "names").write_text("\n".join([*names, "linux-image-6.1.0-56-arm64-unsigned"]))
    stanzas = []
    for name, version, depends in STANZAS:
        fields = {"Package": name, "Version": version, "Architecture": "arm64", "Depends": depends}
        fields |= {"Description": "a kernel\n More: of it", "Size": "100", "SHA256": "AB" * 32}
        stanzas.append("".join(f"{key}: {value}\n" for key, value in (fields | changes).items()))
    (root / "record").write_text("\n".join(stanzas))


def test_images_are_every_version_of_what_holds_one_in_order(host):
    list_images(host)
    found = debian.images()
    assert [(p.package.removeprefix("linux-image-"), p.version) for p in found] == [
        ("6.1.0-9-arm64", "6.1.27-1"),
        ("6.1.0-56-arm64", "6.1.190-1"),
        ("6.1.0-56-arm64", "6.1.192-2"),
        ("6.12.117+deb12-arm64-16k", "6.12.117-1~deb12u1"),
    ]
    assert {(p.size, p.sha256) for p in found} == {(100, "ab" * 32)}
    assert [p.flavour for p in found] == ["arm64", "arm64", "arm64", "arm64-16k"]
    assert calls(host, "show") == 1, "one look-up for all"


def test_no_image_is_an_empty_list(host):
    (host / "names").write_text("linux-image-arm64\n")
    assert debian.images() == []
    assert calls(host, "show") == 0


@pytest.mark.parametrize("changes", [{"Architecture": "amd64"}, {"SHA256": "no"}, {"Version": "../x"}])
def test_images_that_the_lists_describe_wrongly_are_skipped_with_a_note(host, caplog, changes):
    list_images(host, **changes)
    wrong = (host / "record").read_text().split("\n\n")[0]
    list_images(host)
    right = (host / "record").read_text().split("\n\n", 1)[1]
    (host / "record").write_text(f"{wrong}\n\n{right}")
    assert [p.version for p in debian.images()] == ["6.1.190-1", "6.1.192-2", "6.12.117-1~deb12u1"]
    (note,) = caplog.messages
    assert note.startswith("verify: linux-image-6.1.0-9-arm64 ") and "is skipped: expected" in note


def test_lists_that_describe_every_image_wrongly_are_an_error(host):
    list_images(host, SHA256="no")
    with pytest.raises(TargetError, match=r"all malformed, the first linux-image-6\.1\.0-9-arm64 "):
        debian.images()


def test_lock_that_another_process_keeps_is_not_waited_for_without_end(host, monkeypatch):
    monkeypatch.setattr(apt, "_LOCK_LIMIT", 0.1)
    client = suites.apt_for(None)
    refused = r"/lock: another process has locked it for 0 s: is it stopped\?$"
    with client.locked(), pytest.raises(TargetError, match=refused):
        debian.read(PACKAGE)


def test_a_version_is_asked_for_by_name(host, make):
    serve(host, [(kernel_member(), make.image())])
    kernel = open_target(f"debian:{PACKAGE}=6.1.192-2")
    assert kernel.name == f"{PACKAGE}=6.1.192-2"
    assert f"show --no-all-versions {PACKAGE}=6.1.192-2" in (host / "log").read_text()


def test_an_image_is_held_until_it_is_dropped(host, make):
    serve(host, [(kernel_member(), make.image())])
    (host / "names").write_text(PACKAGE)
    (package,) = debian.images()
    assert not debian.is_cached(package)
    debian.read(PACKAGE)
    path = cached(host)
    assert debian.is_cached(package)
    for _ in range(2):
        debian.drop(package)
        assert not debian.is_cached(package)
        assert not path.parent.exists()


def binary_member(name: str = "./usr/lib/modules/7.3.4-arm64/vmlinuz") -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


IMAGE_7 = "linux-image-7.3.4+deb13-arm64"
BINARY_7 = "linux-binary-7.3.4+deb13-arm64"
VERSION_7 = "7.3.4-1~bpo13+1"


def serve_dependencies(root: Path, **changes: str) -> None:
    """Have apt know linux-image-arm64, the image that it depends on, and the package with its kernel.

    The archive that is served already is that of the last.
    """
    size, digest = (
        (root / "archive").stat().st_size,
        hashlib.sha256((root / "archive").read_bytes()).hexdigest(),
    )
    depends = {
        "linux-image-arm64": f"linux-base-arm64 (= {VERSION_7}), {IMAGE_7} (= {VERSION_7})",
        IMAGE_7: f"linux-base-7.3.4 (= {VERSION_7}), {BINARY_7} (= {VERSION_7}), linux-modules-7.3.4",
        BINARY_7: f"linux-base-7.3.4 (= {VERSION_7})",
    } | changes
    (root / "records").mkdir(exist_ok=True)
    for name, needed in depends.items():
        held = name == BINARY_7
        fields = {"Package": name, "Version": VERSION_7, "Architecture": "arm64", "Depends": needed}
        fields |= {"Size": str(size if held else 1400), "SHA256": digest if held else "ab" * 32}
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        for asked in (name, f"{name}={VERSION_7}"):
            (root / "records" / asked).write_text(text)


@pytest.mark.parametrize("package", ["linux-image-arm64", IMAGE_7, BINARY_7, f"{IMAGE_7}={VERSION_7}"])
def test_a_package_that_depends_on_the_kernel_is_followed(host, make, package):
    serve(
        host, [(binary_member("./usr/lib/modules/7.3.4/kernel/a.ko"), b"no"), (binary_member(), make.image())]
    )
    serve_dependencies(host)
    for _ in range(2):
        assert debian.read(package) == make.image()
    assert calls(host, "download") == 1
    assert f"download {BINARY_7}={VERSION_7}" in (host / "log").read_text()
    assert cached(host).parent.name.startswith(f"{BINARY_7}_{VERSION_7}_")


@pytest.mark.parametrize(
    ("depends", "message"),
    [
        (f"linux-image-arm64 (= {VERSION_7})", "found only packages that depend on others"),
        ("linux-binary-8 (= 1)", "expected linux-binary-8 1, which it depends on, in the lists, found none"),
        (f"{BINARY_7} (>= {VERSION_7})", "expected SHA-256"),
    ],
    ids=["circle", "unknown", "no one version"],
)
def test_dependencies_that_lead_to_no_kernel_are_refused(host, make, depends, message):
    serve(host, [(binary_member(), make.image())])
    serve_dependencies(host, **{IMAGE_7: depends})
    with pytest.raises(TargetError, match=f"^debian:linux-image-arm64: .*{message}"):
        debian.read("linux-image-arm64")


def test_images_name_the_package_with_the_kernel(host, make):
    serve(host, [(binary_member(), make.image())])
    serve_dependencies(host)
    (host / "names").write_text(f"linux-image-arm64\n{IMAGE_7}\n{IMAGE_7}-dbg\n")
    records = [(host / "records" / name).read_text() for name in (IMAGE_7, BINARY_7)]
    (host / "record").write_text("\n".join(records))
    (package,) = debian.images()
    assert (package.package, package.archive, package.flavour) == (IMAGE_7, BINARY_7, "arm64")
    assert package.size == (host / "archive").stat().st_size
    debian.read(package.package)
    assert debian.is_cached(package)
    debian.drop(package)
    assert not debian.is_cached(package)


def test_an_image_whose_kernel_the_lists_have_not_is_left_out(host, make):
    serve(host, [(binary_member(), make.image())])
    serve_dependencies(host)
    (host / "names").write_text(IMAGE_7)
    (host / "record").write_text((host / "records" / IMAGE_7).read_text())
    assert debian.images() == []


ARCHIVES = """Google|cloud|https://packages.example/apt/
Debian|Debian-Security|http://mirror.example/debian-security/
Debian|Debian|http://mirror.example/debian/
Debian|Debian|http://second.example/debian/
"""


def suite_state(host: Path, suite: str) -> Path:
    return host.parent / "cache" / "kexec-verify" / "debian" / "suites" / suite


@pytest.mark.parametrize(
    ("suite", "address"),
    [
        ("trixie-backports", "http://mirror.example/debian/"),
        ("sid", "http://mirror.example/debian/"),
        ("trixie-security", "http://mirror.example/debian-security/"),
    ],
)
def test_a_suite_has_a_state_of_its_own_and_the_host_s_mirror(
    host, make, monkeypatch, tmp_path, suite, address
):
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(suites, "_KEYRINGS", (str(tmp_path / "none"), str(tmp_path / "keyring")))
    serve(host, [(kernel_member(), make.image())])
    (host / "archives").write_text(ARCHIVES)
    kernel = open_target(f"debian:{PACKAGE}/{suite}")
    assert kernel.name == f"{PACKAGE}_{suite}"
    state = suite_state(host, suite)
    assert (state / "sources" / "debian.sources").read_text().splitlines() == [
        "Types: deb",
        f"URIs: {address}",
        f"Suites: {suite}",
        "Components: main",
        f"Signed-By: {tmp_path}/keyring",
    ]
    config = (state / "apt.conf").read_text()
    for line in ('sourcelist "/dev/null"', f'sourceparts "{state}/sources"', f'Dir::State "{state}/state"'):
        assert line in config
    commands = [
        line for line in (host / "log").read_text().splitlines() if " show " in line or " download " in line
    ]
    assert commands and all(f"-c {state}/apt.conf" in line for line in commands)
    assert cached(host).is_relative_to(state)


def test_the_host_s_own_client_reads_the_host_s_sources(host, make):
    serve(host, [(kernel_member(), make.image())])
    debian.read(PACKAGE)
    assert "Dir::Etc" not in (host.parent / "cache" / "kexec-verify" / "debian" / "apt.conf").read_text()


def test_a_suite_s_sources_are_kept_while_the_host_is_offline(host, make):
    serve(host, [(kernel_member(), make.image())])
    (host / "archives").write_text(ARCHIVES)
    debian.read(f"{PACKAGE}/sid")
    sources = suite_state(host, "sid") / "sources" / "debian.sources"
    os.utime(sources, (1, 1))
    (host / "archives").unlink()
    assert debian.read(f"{PACKAGE}/sid") == make.image()
    assert "Suites: sid" in sources.read_text()


@pytest.mark.parametrize("suite", ["", "..", "SID", "-o", "a b", "sid;x"])
def test_what_is_no_suite_s_name_never_reaches_apt(host, suite):
    with pytest.raises(TargetError, match="expected a Debian suite such as trixie-backports, found"):
        debian.read(f"{PACKAGE}/{suite}")
    assert not (host / "log").exists()


@pytest.mark.parametrize("archives", ["", "Google|Debian|http://x/\n", "Debian|Debian|no address\n"])
def test_a_suite_needs_an_archive_of_debian_among_the_host_s_sources(host, make, archives):
    serve(host, [(kernel_member(), make.image())])
    (host / "archives").write_text(archives)
    with pytest.raises(TargetError, match=f"^debian:{PACKAGE}/sid: expected an archive of Debian among"):
        debian.read(f"{PACKAGE}/sid")


def test_a_suite_that_apt_does_not_accept_is_an_error(host, make):
    serve(host, [(kernel_member(), make.image())])
    (host / "archives").write_text(ARCHIVES)
    debian.read(PACKAGE)
    (host / "offline").write_text(
        "E: The repository 'http://mirror.example/debian sid InRelease' is not signed."
    )
    with pytest.raises(TargetError, match=r"found: E: The repository .* is not signed") as raised:
        debian.read(f"{PACKAGE}/sid")
    assert raised.value.exit_code == 2


def test_images_of_several_suites_are_those_of_the_first_that_has_them(host, make):
    serve(host, [(kernel_member(), make.image())])
    (host / "archives").write_text(ARCHIVES)
    (host / "names").write_text(PACKAGE)
    (package,) = debian.images(["trixie", "sid"])
    assert package.suite == "trixie"
    assert [p.suite for p in debian.images()] == [""]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("debian:linux-image-arm64", "debian:linux-image-arm64/sid"),
        ("debian:linux-image-arm64=1", "debian:linux-image-arm64=1/sid"),
        ("debian:linux-image-arm64/trixie", "debian:linux-image-arm64/trixie"),
        ("vmlinux", "vmlinux"),
    ],
)
def test_a_suite_is_that_of_the_targets_that_name_none(target, named):
    assert debian.in_suite(target, "sid") == named
    assert debian.in_suite(target, None) == target


def test_newest_knows_the_kernels_of_backports(host):
    names = """linux-image-6.1.0-0.deb11.44-arm64 linux-image-6.1.0-0.deb11.52-arm64
    linux-image-6.1.0-0.deb11.52-rt-arm64"""
    (host / "names").write_text(names)
    assert debian.newest("6.1") == "linux-image-6.1.0-0.deb11.52-arm64"
    assert debian.newest("6.1", "rt-arm64") == "linux-image-6.1.0-0.deb11.52-rt-arm64"


def test_header_that_would_fill_memory_is_refused(host, make, monkeypatch):
    long = kernel_member("./" + "x" * 300)
    serve(host, [(long, b""), (kernel_member(), make.image())])
    monkeypatch.setattr(deb, "_LARGEST_HEADER", 200)
    with pytest.raises(TargetError, match="expected an intact package, found: a header of 3"):
        open_target(f"debian:{PACKAGE}")


def test_members_without_end_are_refused(host, make, monkeypatch):
    serve(host, [*((tarfile.TarInfo(f"./{row}"), b"") for row in range(20)), (kernel_member(), make.image())])
    monkeypatch.setattr(deb, "_MOST_MEMBERS", 20)
    with pytest.raises(TargetError, match=r"expected a kernel at \./boot/vmlinuz-"):
        open_target(f"debian:{PACKAGE}")
