"""Builds the objects of kexec's code in many configurations, each linked to a target for `verify run`.

    .venv/bin/python scripts/build-configurations.py --list
    .venv/bin/python scripts/build-configurations.py SOURCE OUT [NAME...]

SOURCE is an unpacked kernel tree, such as that of Debian's package linux-source-6.12. It is not written to.
OUT gets a file NAME.elf for each configuration, and a folder of objects for each toolchain. Without a NAME
every configuration is built. The objects are those of docs/ci.md, linked by scripts/link-objects.sh.

A line is printed for each configuration: its name, ``built`` or what failed, and the seconds that it took.
Exit status: 0 if each was built, 1 if one was not, 2 for a usage error.

Environment:
  GCC      prefix of GCC and the binutils (aarch64-linux-gnu-)
  CLANG    version suffix of clang, lld and LLVM's tools (-19)
  JOBS     number of compilers at once (number of CPUs)
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_KERNEL = ("relocate_kernel", "machine_kexec", "cpu-reset", "hyp-stub", "cpufeature", "cpu_errata")
_MM = ("trans_pgd-asm", "trans_pgd", "cache", "context", "proc", "mmu", "init")
OBJECTS = (
    *(f"arch/arm64/kernel/{name}.o" for name in _KERNEL),
    *(f"arch/arm64/mm/{name}.o" for name in _MM),
    "arch/arm64/lib/memcpy.o",
    "kernel/kexec_core.o",
)
LAYOUT = "arch/arm64/kernel/vmlinux.lds"
# Of each of these kconfig takes one; a second one that is on would win.
CHOICES = (
    ("ARM64_4K_PAGES", "ARM64_16K_PAGES", "ARM64_64K_PAGES"),
    tuple(f"ARM64_VA_BITS_{bits}" for bits in (36, 39, 42, 47, 48, 52)),
)
COMMON = ("KEXEC", "KEXEC_FILE", "DEBUG_INFO_DWARF5", "!DEBUG_INFO_REDUCED")


@dataclass(frozen=True)
class Configuration:
    """What a kernel is built with, beyond defconfig.

    :param options: names of options that are switched on, or off after ``!``. ``A|B`` is the one of the two
        that the tree has.
    """

    toolchain: str
    options: tuple[str, ...] = ()


def _gcc(*options: str) -> Configuration:
    return Configuration("gcc", options)


def _clang(*options: str) -> Configuration:
    return Configuration("clang", options)


_UBSAN = ("UBSAN", "UBSAN_BOUNDS", "UBSAN_SHIFT", "UBSAN_BOOL", "UBSAN_ENUM")
CONFIGURATIONS = {
    "gcc": _gcc(),
    "clang": _clang(),
    "gcc-4k-39": _gcc("ARM64_4K_PAGES", "ARM64_VA_BITS_39"),
    "gcc-4k-52": _gcc("ARM64_4K_PAGES", "ARM64_VA_BITS_52"),
    "gcc-4k-48": _gcc("ARM64_4K_PAGES", "ARM64_VA_BITS_48"),
    "gcc-16k-47": _gcc("ARM64_16K_PAGES", "ARM64_VA_BITS_47"),
    "clang-16k-52": _clang("ARM64_16K_PAGES", "ARM64_VA_BITS_52"),
    "gcc-64k-48": _gcc("ARM64_64K_PAGES", "ARM64_VA_BITS_48"),
    "gcc-64k-52": _gcc("ARM64_64K_PAGES", "ARM64_VA_BITS_52"),
    "clang-64k-52": _clang("ARM64_64K_PAGES", "ARM64_VA_BITS_52"),
    "gcc-Os": _gcc("CC_OPTIMIZE_FOR_SIZE"),
    "clang-Os": _clang("CC_OPTIMIZE_FOR_SIZE"),
    "clang-kcfi": _clang("CFI_CLANG|CFI", "!CFI_PERMISSIVE"),
    "gcc-scs": _gcc("SHADOW_CALL_STACK", "!ARM64_PTR_AUTH"),
    "clang-scs": _clang("SHADOW_CALL_STACK", "!ARM64_PTR_AUTH"),
    "gcc-kasan-outline": _gcc("KASAN", "KASAN_GENERIC", "KASAN_OUTLINE"),
    "gcc-kasan-inline": _gcc("KASAN", "KASAN_GENERIC", "KASAN_INLINE"),
    "clang-kasan-inline": _clang("KASAN", "KASAN_GENERIC", "KASAN_INLINE"),
    "gcc-kcov": _gcc("KCOV"),
    "gcc-ftrace": _gcc("FTRACE", "FUNCTION_TRACER"),
    "gcc-ubsan": _gcc(*_UBSAN, "!UBSAN_TRAP"),
    "clang-ubsan-trap": _clang(*_UBSAN, "UBSAN_TRAP"),
    "gcc-lockdep": _gcc("DEBUG_KERNEL", "PROVE_LOCKING"),
    "clang-lto": _clang("LTO_CLANG_THIN", "!LTO_NONE"),
}


class BuildError(Exception):
    """A configuration could not be built; the message says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the objects of kexec's code in many configurations.")
    parser.add_argument("--list", action="store_true", help="print the configurations and exit")
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    chosen = parser.parse_args()
    if chosen.list:
        for name, configuration in CONFIGURATIONS.items():
            print(f"{name:20} {' '.join(configuration.options) or 'defconfig'}")
        return 0
    if chosen.source is None or chosen.out is None:
        parser.error("expected SOURCE and OUT")
    if not (chosen.source / "arch" / "arm64" / "Kconfig").is_file():
        parser.error(f"{chosen.source}: expected a kernel tree, found no arch/arm64/Kconfig")
    unknown = [name for name in chosen.names if name not in CONFIGURATIONS]
    if unknown:
        parser.error(f"unknown configuration {unknown[0]}; --list shows those there are")
    failed = False
    for name in chosen.names or CONFIGURATIONS:
        begun = time.monotonic()
        try:
            build(chosen.source, chosen.out, name)
            result = "built"
        except BuildError as error:
            result, failed = f"error: {error}", True
        print(f"{name:20} {result} ({time.monotonic() - begun:.0f} s)", flush=True)
    return int(failed)


def build(source: Path, out: Path, name: str) -> Path:
    """Build one configuration.

    :returns: OUT/NAME.elf.
    :raises BuildError: a tool fails, or the tree has not the options that the configuration asks for.
    """
    source, out = source.resolve(), out.resolve()
    configuration = CONFIGURATIONS[name]
    folder = out / configuration.toolchain  # one for a toolchain: the host's tools are built once
    folder.mkdir(parents=True, exist_ok=True)
    log = out / f"{name}.log"
    log.write_text("")
    prefix, suffix = os.environ.get("GCC", "aarch64-linux-gnu-"), os.environ.get("CLANG", "-19")
    tools = f"LLVM={suffix}" if configuration.toolchain == "clang" else f"CROSS_COMPILE={prefix}"
    jobs = os.environ.get("JOBS", str(os.cpu_count() or 1))
    make = ["make", "-s", f"-j{jobs}", "-C", str(source), f"O={folder}", "ARCH=arm64", tools]
    _run([*make, "defconfig"], log)
    _configure(source, folder, (*COMMON, *configuration.options), log)
    _run([*make, "olddefconfig"], log)
    _check(folder / ".config", configuration.options)
    _run([*make, LAYOUT, *OBJECTS], log)
    linker = f"ld.lld{suffix}" if configuration.toolchain == "clang" else f"{prefix}ld"
    link = ["sh", str(ROOT / "scripts" / "link-objects.sh"), str(out / f"{name}.elf"), LAYOUT, *OBJECTS]
    _run(link, log, folder, CROSS_COMPILE=prefix, RELOCATABLE_LD=linker)
    return out / f"{name}.elf"


def _configure(source: Path, folder: Path, options: tuple[str, ...], log: Path) -> None:
    command = [str(source / "scripts" / "config"), "--file", str(folder / ".config")]
    for choice in CHOICES:
        if set(choice) & set(options):
            command += [word for option in choice for word in ("--disable", option)]
    for option in options:
        for each in option.lstrip("!").split("|"):
            command += ["--disable" if option.startswith("!") else "--enable", each]
    _run(command, log)


def _check(config: Path, options: tuple[str, ...]) -> None:
    """Check that the tree has taken the options.

    :raises BuildError: kconfig has changed one of them.
    """
    on = set(re.findall(r"^CONFIG_(\w+)=y$", config.read_text(), re.MULTILINE))
    for option in options:
        wanted = not option.startswith("!")
        if wanted != any(each in on for each in option.lstrip("!").split("|")):
            raise BuildError(f"the tree does not take {option} in this configuration")


def _run(command: list[str], log: Path, folder: Path | None = None, **variables: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from error
    with log.open("a") as file:
        file.write(done.stdout)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if "error" in line.lower()]
        raise BuildError(f"{lines[0] if lines else Path(command[0]).name + ' failed'}; see {log}")


if __name__ == "__main__":
    sys.exit(main())
