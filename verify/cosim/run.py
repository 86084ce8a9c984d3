"""Run a whole co-simulation of what the targets use, in several processes, and report it.

Every part has a seed of its own, drawn from the run's, so the result does not depend on the number of
processes.
"""

from __future__ import annotations

import multiprocessing
import platform
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import kexec_verify
from kexec_verify.cosim import model
from kexec_verify.cosim.classes import Shape, classify
from kexec_verify.cosim.machine import CODE
from kexec_verify.cosim.negative import Tried, random_words, try_words
from kexec_verify.cosim.opcode import Checked, check_class
from kexec_verify.cosim.system import SPACE, Swept, sweep
from kexec_verify.cosim.system_table import is_system
from kexec_verify.errors import NoKexecError
from kexec_verify.kexec.locate import Function, find_function, find_routine
from kexec_verify.specs.contracts import CONTRACTS
from kexec_verify.target import Kernel

_PIECES = 8  # of the sweep and of the random words, for the processes to share
_NEGATIVE_SHARE = 10  # one random word for this many vectors


@dataclass
class Parts:
    """Results of the parts, in the order in which they were handed out."""

    classes: list[Checked] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    swept: list[Swept] = field(default_factory=list)


FUNCTIONS = (
    *("machine_kexec", "machine_kexec_post_load", "machine_kexec_mask_interrupts"),
    *("cpu_soft_restart", "__cpu_soft_restart", "elx_sync", "el1_sync"),
    *(name for contract in CONTRACTS if not contract.assumed for name in contract.names),
)
"""Functions whose instructions proofs of a whole kernel rest on, besides the routine."""


def functions(kernel: Kernel) -> list[Function]:
    """Return the relocation routine, and those of FUNCTIONS that the kernel has."""
    found = [find_routine(kernel)]
    for name in FUNCTIONS:
        try:
            found.append(find_function(kernel, name))
        except NoKexecError:
            continue
    return found


def used_words(kernels: Sequence[Kernel]) -> list[int]:
    """Return every distinct encoding in the kernels' routines and other functions, ascending."""
    words: set[int] = set()
    for kernel in kernels:
        for function in functions(kernel):
            code = function.code
            words.update(int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4))
    return sorted(words)


def by_class(words: Sequence[int]) -> list[list[int]]:
    """Return the encodings of each opcode class; one that cannot be classified is a class of its own."""
    found: dict[Shape | int, list[int]] = {}
    for word in words:
        found.setdefault(classify(word, CODE) or word, []).append(word)
    return list(found.values())


def _tried(seed: str, used: Sequence[int], count: int) -> Tried:
    rng = random.Random(seed)
    return try_words(random_words(rng, used, count), rng)


def _swept(first: int, last: int) -> Swept:
    return sweep(range(first, last))


def cosimulate(
    kernels: Sequence[Kernel],
    vectors: int,
    seed: int = 0,
    jobs: int = 1,
    whole_space: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> model.Report:
    """Compare what the kernels' routines use on at least ``vectors`` states.

    :param jobs: processes; with one, all is done in this process.
    :param whole_space: sweep all system instructions, else one in sixteen.
    """
    started = time.monotonic()
    words = used_words(kernels)
    classes = by_class(words)
    shown = sum(_is_comparable(group) for group in classes)
    quota = -(-vectors // max(1, shown))
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    calls += [(check_class, (group, quota, seed)) for group in classes]
    count = max(1, vectors // _NEGATIVE_SHARE // _PIECES)
    calls += [(_tried, (f"{seed} negative {piece}", words, count)) for piece in range(_PIECES)]
    size = SPACE // _PIECES if whole_space else SPACE // _PIECES // 16
    starts = range(0, SPACE, SPACE // _PIECES)
    calls += [(_swept, (start, start + size)) for start in starts]
    parts = Parts()
    for done in _results(calls, jobs, progress):
        if isinstance(done, Checked):
            parts.classes.append(done)
        elif isinstance(done, Tried):
            parts.tried.append(done)
        else:
            parts.swept.append(done)
    seconds = round(time.monotonic() - started, 3)
    return _report(kernels, words, parts, seed, seconds)


def _is_comparable(group: Sequence[int]) -> bool:
    return not is_system(group[0])


def _results(
    calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], jobs: int, progress: Callable[[str], None]
) -> list[Any]:
    if jobs <= 1:
        found = []
        for index, (function, arguments) in enumerate(calls):
            progress(f"{index}/{len(calls)} parts")
            found.append(function(*arguments))
        return found
    # A fresh interpreter: the engine's own threads and Unicorn do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: list[Future[Any]] = [pool.submit(function, *arguments) for function, arguments in calls]
        results = []
        for index, future in enumerate(futures):
            progress(f"{index}/{len(calls)} parts")
            results.append(future.result())
    return results


def _sum(dictionaries: Sequence[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for dictionary in dictionaries:
        for name, count in dictionary.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _report(
    kernels: Sequence[Kernel], words: Sequence[int], parts: Parts, seed: int, seconds: float
) -> model.Report:
    records = [
        model.ClassRecord(
            mnemonic=done.mnemonic,
            shape=done.shape,
            checked=done.checked,
            used=done.used,
            drawn=done.drawn,
            vectors=done.vectors,
            folded=done.folded,
            solved=done.solved,
            unsupported=done.unsupported,
            mismatches=done.mismatches,
            name=done.name,
        )
        for done in parts.classes
    ]
    mismatches = [lines for done in parts.classes for lines in done.shown]
    mismatches += [lines for tried in parts.tried for lines in tried.mismatches]
    mismatches += [[line] for swept in parts.swept for line in swept.mismatches]
    counts = {
        name: sum(getattr(tried, name) for tried in parts.tried)
        for name in (
            "words",
            "refused",
            "system",
            "unpredictable",
            "unmapped",
            "compared",
            "unlisted",
            "vectors",
        )
    }
    agreeing = _sum([swept.agreeing for swept in parts.swept])
    refused = sum(swept.refused for swept in parts.swept)
    wrong = sum(len(swept.mismatches) for swept in parts.swept)
    total = refused + wrong + sum(agreeing.values())
    return model.Report(
        schema=model.SCHEMA,
        tool=f"kexec-verify {kexec_verify.__version__}",
        seed=seed,
        seconds=seconds,
        targets=[kernel.name for kernel in kernels],
        encodings=len(words),
        covered=sum(done.covered for done in parts.classes),
        vectors=sum(record.vectors for record in records) + counts["vectors"],
        classes=records,
        system=model.SystemRecord(total, refused, agreeing),
        negative=model.NegativeRecord(
            **counts,
        ),
        mismatches=mismatches,
        versions={
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("angr", "pypcode", "unicorn", "capstone", "z3-solver", "bitwuzla")
            },
        },
    )
