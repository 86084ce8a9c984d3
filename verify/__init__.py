"""kexec-verify: proofs about what compiled arm64 kernels do in kexec.

docs/api.md lists what is public. A name is loaded when it is first used, so ``import kexec_verify`` is quick.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kexec_verify.api import verify
    from kexec_verify.errors import (
        InternalError,
        LimitError,
        NoKexecError,
        TargetError,
        UnsupportedError,
        UsageError,
        VerifyError,
    )
    from kexec_verify.report.model import AssumptionRecord, ObligationRecord, PropertyRecord, Run
    from kexec_verify.report.read import read_run
    from kexec_verify.verdict import Verdict

__version__ = "0.2.0"

__all__ = [
    "AssumptionRecord",
    "InternalError",
    "LimitError",
    "NoKexecError",
    "ObligationRecord",
    "PropertyRecord",
    "Run",
    "TargetError",
    "UnsupportedError",
    "UsageError",
    "Verdict",
    "VerifyError",
    "__version__",
    "read_run",
    "verify",
]

_MODULES = {
    "kexec_verify.api": ("verify",),
    "kexec_verify.errors": (
        "InternalError",
        "LimitError",
        "NoKexecError",
        "TargetError",
        "UnsupportedError",
        "UsageError",
        "VerifyError",
    ),
    "kexec_verify.report.model": ("AssumptionRecord", "ObligationRecord", "PropertyRecord", "Run"),
    "kexec_verify.report.read": ("read_run",),
    "kexec_verify.verdict": ("Verdict",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
