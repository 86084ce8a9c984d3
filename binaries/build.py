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
WHOLE = HERE / "whole"
MANIFEST = HERE / "manifest.json"
MANIFEST_SCHEMA = 1

ENTRY = "arm64_relocate_new_kernel"
PAGE_SHIFTS = {"4k": 12, "16k": 14, "64k": 16}
VARIANTS = ("regs-done-test", "regs-no-test", "regs-no-test-c", "kimage-mmu")

# The states of the whole path: the form of their routine, and the folders that are compiled with it.
WHOLE_ENTRY = "machine_kexec"
WHOLE_STATES = {
    "seed-before": ("regs-done-test", ("common", "seed", "seed-before")),
    "seed-after": ("regs-no-test", ("common", "seed", "seed-after")),
    "later": ("kimage-mmu", ("common", "later")),
}
WHOLE_PAGE_SIZES = ("4k",)
# The wrong versions, by the numbers of binaries/faults.md, and the states that they are of.
EVERY_STATE = tuple(WHOLE_STATES)
FAULTS = dict.fromkeys((26, 27, 29, *range(30, 40), 101, 102), EVERY_STATE) | {103: ("later",)}

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

# As kernels are built: nops for ftrace, frame records, signed return addresses, no assumption on types.
WHOLE_FLAGS = (
    "-O2",
    "-std=gnu11",
    "-ffreestanding",
    "-fno-pic",
    "-mcmodel=small",
    "-fno-strict-aliasing",
    "-fno-common",
    "-fno-asynchronous-unwind-tables",
    "-fno-delete-null-pointer-checks",
    "-fno-omit-frame-pointer",
    "-momit-leaf-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-fpatchable-function-entry=2",
    "-mbranch-protection=pac-ret+bti",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Iinclude",
    "-Iwhole/include",
)
# Static functions have symbols too, as in a kernel's kallsyms.
WHOLE_LINK_FLAGS = (
    "-T",
    "whole/link.ld",
    "-static",
    "-z",
    "max-page-size=4096",
    "--build-id=none",
    "--strip-debug",
    "--discard-locals",
)


class BuildError(Exception):
    """The corpus could not be built; the message is for the user."""


@dataclass(frozen=True)
class Toolchain:
    """One compiler (its name in file names) with its linker, their commands, versions and own flags.

    `flags` go to everything, `routine_flags` and `whole_flags` to one kind of binary.
    """

    compiler: str
    cc: tuple[str, ...]
    ld: tuple[str, ...]
    flags: tuple[str, ...]
    routine_flags: tuple[str, ...]
    whole_flags: tuple[str, ...]
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
    routine_flags = ("-fno-ivopts",)
    # Debian's kernels keep the stack protector's value at this offset of the current task.
    whole_flags = (
        "-fstack-protector-strong",
        "-mstack-protector-guard=sysreg",
        "-mstack-protector-guard-reg=sp_el0",
        "-mstack-protector-guard-offset=1384",
    )
    return Toolchain(
        compiler="gcc",
        cc=(cc,),
        ld=(ld,),
        flags=("-mgeneral-regs-only",),
        routine_flags=routine_flags,
        whole_flags=whole_flags,
        compiler_version=first_line([cc, "--version"]),
        linker_version=first_line([ld, "--version"]),
    )


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
    return Toolchain(
        compiler="clang",
        cc=(*zig, "cc"),
        ld=(*zig, "ld.lld"),
        flags=flags,
        routine_flags=(),
        whole_flags=("-fno-stack-protector",),
        compiler_version=version,
        linker_version=linker,
    )


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


def build_one(
    name: str,
    toolchain: Toolchain,
    units: Iterable[Path],
    flags: tuple[str, ...],
    link_flags: tuple[str, ...],
    out: Path,
    work: Path,
) -> Path:
    """Compile `units` (paths below binaries/src) and link them into `out`/`name`; return that path (Path)."""
    objects: list[str] = []
    for n, unit in enumerate(units):
        objects.append(str(work / f"{n}.o"))
        run([*toolchain.cc, *flags, "-c", "-o", objects[-1], str(unit)], work)
    linked = work / name
    run([*toolchain.ld, *link_flags, "-o", str(linked), *objects], work)
    linked.chmod(0o644)
    shutil.copy(linked, out / name)
    return out / name


def entry_of(
    path: Path,
    kind: str,
    variant: str,
    page_shift: int,
    toolchain: Toolchain,
    flags: Iterable[str],
    link_flags: Iterable[str],
    entry: str,
) -> dict[str, object]:
    """What the manifest says of one binary (dict)."""
    return {
        "file": path.name if kind == "routine" else f"{WHOLE.name}/{path.name}",
        "kind": kind,
        "sha256": sha256(path),
        "form": variant,
        "page_size": 1 << page_shift,
        "compiler": toolchain.compiler,
        "compiler_version": toolchain.compiler_version,
        "linker_version": toolchain.linker_version,
        "flags": [*flags],
        "link_flags": [*link_flags],
        "entry": entry,
    }


def units_of(*folders: Path) -> list[Path]:
    """Every source that is compiled in `folders`, as paths below binaries/src (list of Path)."""
    found = [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix in (".S", ".c")]
    return [p.relative_to(SOURCES) for p in found]


def build(out: Path, toolchain: Toolchain) -> list[dict[str, object]]:
    """Build every form and page size with one toolchain into `out`; return the manifest entries (list)."""
    entries: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="kexec-verify-") as scratch:
        work = Path(scratch)
        for variant in VARIANTS:
            units = units_of(SOURCES / variant)
            for size, shift in PAGE_SHIFTS.items():
                flags = (*toolchain.flags, *toolchain.routine_flags, *COMMON_FLAGS, f"-DPAGE_SHIFT={shift}")
                name = f"{variant}-{size}-{toolchain.compiler}.elf"
                path = build_one(name, toolchain, units, flags, LINK_FLAGS, out, work)
                entries.append(entry_of(path, "routine", variant, shift, toolchain, flags, LINK_FLAGS, ENTRY))
    return entries


def build_whole(
    out: Path, toolchain: Toolchain, states: Iterable[str] = EVERY_STATE, fault: int | None = None
) -> list[dict[str, object]]:
    """Build `states` of the whole path with one toolchain into `out`; return their manifest entries (list).

    With a `fault` the wrong version of that number, as `<state>-<page size>-<compiler>-fault<number>.elf`.
    """
    entries: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="kexec-verify-") as scratch:
        work = Path(scratch)
        for state in states:
            routine, folders = WHOLE_STATES[state]
            units = units_of(SOURCES / routine, *(SOURCES / "whole" / folder for folder in folders))
            includes = tuple(f"-Iwhole/{folder}" for folder in folders)
            for size in WHOLE_PAGE_SIZES:
                shift = PAGE_SHIFTS[size]
                flags = (*toolchain.flags, *toolchain.whole_flags, *WHOLE_FLAGS, *includes)
                flags = (*flags, f"-DPAGE_SHIFT={shift}")
                suffix = ""
                if fault is not None:
                    flags = (*flags, f"-DFAULT={fault}")
                    suffix = f"-fault{fault}"
                name = f"{state}-{size}-{toolchain.compiler}{suffix}.elf"
                path = build_one(name, toolchain, units, flags, WHOLE_LINK_FLAGS, out, work)
                entries.append(
                    entry_of(path, "whole", state, shift, toolchain, flags, WHOLE_LINK_FLAGS, WHOLE_ENTRY)
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
        (out / WHOLE.name).mkdir()
        entries = [entry for toolchain in toolchains for entry in build(out, toolchain)]
        whole = [entry for toolchain in toolchains for entry in build_whole(out / WHOLE.name, toolchain)]
        for part in (entries, whole):
            part.sort(key=lambda entry: str(entry["file"]))
        manifest = {
            "schema": MANIFEST_SCHEMA,
            "sources": source_hashes(),
            "binaries": entries,
            "whole": whole,
        }
        names = [str(entry["file"]) for entry in (*entries, *whole)]
        WHOLE.mkdir(exist_ok=True)
        for old in (*HERE.glob("*.elf"), *WHOLE.glob("*.elf")):
            if old.relative_to(HERE).as_posix() not in names:
                old.unlink()
        for name in names:
            shutil.copy(out / name, HERE / name)
        MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    return names


def build_fault(out: Path, fault: int) -> list[str]:
    """Build wrong version `fault` of its states into `out`; return the names of its files (list of str)."""
    out.mkdir(parents=True, exist_ok=True)
    states = FAULTS[fault]
    made = [entry for make in TOOLCHAINS.values() for entry in build_whole(out, make(), states, fault)]
    return [Path(str(entry["file"])).name for entry in made]


def main() -> int:
    """Build the corpus, or one wrong version of the whole path; return the exit status (int)."""
    parser = argparse.ArgumentParser(description=__doc__)
    faulty = "build this wrong version instead, see binaries/faults.md (needs --out)"
    parser.add_argument("--fault", type=int, choices=sorted(FAULTS), help=faulty)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where --fault puts its files")
    arguments = parser.parse_args()
    if (arguments.fault is None) != (arguments.out is None):
        parser.error("--fault and --out go together")
    try:
        names = build_all() if arguments.fault is None else build_fault(arguments.out, arguments.fault)
    except BuildError as error:
        print(f"binaries/build.py: error: {error}", file=sys.stderr)
        return 2
    print(f"built {len(names)} binaries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
