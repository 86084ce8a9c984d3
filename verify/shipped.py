"""Where the shipped corpus is: binaries/ of a checkout, or its copy in an installed package."""

from __future__ import annotations

import os
from pathlib import Path

import kexec_verify
from kexec_verify.errors import UsageError

_MANIFEST = "manifest.json"


def corpus_folder() -> Path:
    """Return the folder of the shipped corpus: ELF files of routines, and of whole kernels in ``whole/``.

    The path is relative to the working directory if the folder is below it.

    :raises UsageError: this installation has no corpus.
    """
    package = Path(kexec_verify.__file__).resolve().parent
    places = (package / "corpus", package.parent / "binaries")
    folder = next((place for place in places if (place / _MANIFEST).is_file()), None)
    if folder is None:
        raise UsageError(
            f"expected the shipped binaries in {' or '.join(map(str, places))}, found neither: name a TARGET"
        )
    here = Path(os.getcwd()).resolve()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def corpus_files() -> list[str]:
    """Return the paths of the corpus' ELF files, sorted.

    :raises UsageError: this installation has no corpus.
    """
    return sorted(str(path) for path in corpus_folder().rglob("*.elf"))
