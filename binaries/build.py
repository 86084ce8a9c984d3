"""Builds the corpus in binaries/ from binaries/src and writes its manifest."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
MANIFEST = HERE / "manifest.json"
MANIFEST_SCHEMA = 1

ENTRY = "arm64_relocate_new_kernel"
PAGE_SHIFTS = {"4k": 12, "16k": 14, "64k": 16}
FORMS = ("regs-done-test", "regs-no-test", "regs-no-test-c", "kimage-mmu")

# Kernel code has no C library, and reads address 0 where the list pointer says so.
COMMON_FLAGS = (
    "-O2",
    "-std=gnu11",
    "-ffreestanding",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-delete-null-pointer-checks",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Iinclude",
)
LINK_FLAGS = (
    "-T",
    "link.ld",
    "-static",
    "-z",
    "max-page-size=4096",
    "--build-id=none",
    "--strip-debug",
    "--discard-all",
)


class BuildError(Exception):
    """The corpus could not be built; the message is for the user."""


@dataclass(frozen=True)
class Toolchain:
    """One compiler (its name in file names) with its linker, their commands, versions and own flags."""

    compiler: str
    cc: tuple[str, ...]
    ld: tuple[str, ...]
    flags: tuple[str, ...]
    compiler_version: str
    linker_version: str


def first_line(command: Iterable[str]) -> str:
    """The first line that `command` prints (str)."""
    done = subprocess.run([*command], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0].strip()


def gcc() -> Toolchain:
    """Debian's cross GCC and binutils, or BuildError when they are not installed."""
    cc, ld = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-ld"
    for tool in (cc, ld):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} not found: install the Debian package gcc-aarch64-linux-gnu")
    # Strength reduction of the copy loop's addresses takes more registers than a routine without a stack has.
    flags = ("-mgeneral-regs-only", "-fno-ivopts")
    return Toolchain("gcc", (cc,), (ld,), flags, first_line([cc, "--version"]), first_line([ld, "--version"]))


def clang() -> Toolchain:
    """The clang and lld inside the ziglang wheel, or BuildError when it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("ziglang not found: install requirements-dev.lock")
    zig = (sys.executable, "-m", "ziglang")
    # Kernel code may not touch the vector unit. zig's driver drops -mgeneral-regs-only, so the unit is taken
    # out of the CPU instead; and the driver adds a sanitizer of its own accord.
    flags = ("-target", "aarch64-freestanding-none", "-mcpu=generic-neon-fp_armv8", "-fno-sanitize=all")
    # In brackets each names where its source was fetched from, which says nothing more.
    compiler = first_line([*zig, "cc", "--version"]).partition(" (")[0]
    linker = first_line([*zig, "ld.lld", "--version"]).partition(" (")[0]
    version = f"{compiler} (ziglang {first_line([*zig, 'version'])})"
    return Toolchain("clang", (*zig, "cc"), (*zig, "ld.lld"), flags, version, linker)


TOOLCHAINS = {"gcc": gcc, "clang": clang}


def run(command: list[str], work: Path) -> None:
    """Run one build step in the source folder, so that no path of this machine reaches its output."""
    environment = os.environ | {
        "LC_ALL": "C",
        "SOURCE_DATE_EPOCH": "0",
        "ZIG_GLOBAL_CACHE_DIR": str(work / "zig-global"),
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig-local"),
    }
    done = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr.strip()}")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hex (str)."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(out: Path, toolchain: Toolchain) -> list[dict[str, object]]:
    """Build every form and page size with one toolchain into `out`; return the manifest entries (list)."""
    entries: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="kexec-verify-") as scratch:
        work = Path(scratch)
        for form in FORMS:
            folder = SOURCES / form
            units = sorted(p.relative_to(SOURCES) for p in folder.iterdir() if p.suffix in (".S", ".c"))
            for size, shift in PAGE_SHIFTS.items():
                flags = (*toolchain.flags, *COMMON_FLAGS, f"-DPAGE_SHIFT={shift}")
                objects = [work / f"{n}.o" for n in range(len(units))]
                for unit, obj in zip(units, objects, strict=True):
                    run([*toolchain.cc, *flags, "-c", "-o", str(obj), str(unit)], work)
                name = f"{form}-{size}-{toolchain.compiler}.elf"
                linked = work / name
                run([*toolchain.ld, *LINK_FLAGS, "-o", str(linked), *map(str, objects)], work)
                linked.chmod(0o644)
                shutil.copy(linked, out / name)
                entries.append(
                    {
                        "file": name,
                        "sha256": sha256(linked),
                        "form": form,
                        "page_size": 1 << shift,
                        "compiler": toolchain.compiler,
                        "compiler_version": toolchain.compiler_version,
                        "linker_version": toolchain.linker_version,
                        "flags": list(flags),
                        "link_flags": list(LINK_FLAGS),
                        "entry": ENTRY,
                    }
                )
    return entries


def source_hashes() -> dict[str, str]:
    """The SHA-256 of every file under binaries/src, by its path there (dict of str to str)."""
    files = sorted(p for p in SOURCES.rglob("*") if p.is_file())
    return {p.relative_to(SOURCES).as_posix(): sha256(p) for p in files}


def build_all() -> list[str]:
    """Rebuild the whole corpus in place and return the names of its files (list of str)."""
    # All of it is built before any of it is replaced: a failure leaves the old corpus whole.
    toolchains = [make() for make in TOOLCHAINS.values()]
    with tempfile.TemporaryDirectory(prefix="kexec-verify-") as scratch:
        out = Path(scratch)
        entries = [entry for toolchain in toolchains for entry in build(out, toolchain)]
        entries.sort(key=lambda entry: str(entry["file"]))
        manifest = {"schema": MANIFEST_SCHEMA, "sources": source_hashes(), "binaries": entries}
        names = [str(entry["file"]) for entry in entries]
        for old in HERE.glob("*.elf"):
            if old.name not in names:
                old.unlink()
        for name in names:
            shutil.copy(out / name, HERE / name)
        MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    return names


def main() -> int:
    """Build the corpus; return the exit status (int)."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        names = build_all()
    except BuildError as error:
        print(f"binaries/build.py: error: {error}", file=sys.stderr)
        return 2
    print(f"built {len(names)} binaries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
