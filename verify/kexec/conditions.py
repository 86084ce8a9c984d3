"""Print formulas over the state of C code with the kernel's own names."""

from __future__ import annotations

import re

from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import Formula, application, constant, offset_from, var
from kexec_verify.obligation import Facts

_BRANCH = re.compile(r"branch (taken|not taken) at (0x[0-9a-f]+)")
_RESULT = re.compile(r"\bx0@([A-Za-z_][\w.]*)#\d+")


def condition(context: KexecContext, facts: Facts) -> tuple[str, ...]:
    """Return the branches among ``facts``, each with its address and what holds there."""
    found = []
    for label, formula in facts:
        match = _BRANCH.match(label)
        if match:
            found.append(f"{match[1]} at {context.where(int(match[2], 16))}: {in_words(context, formula)}")
    return tuple(found)


def in_words(context: KexecContext, formula: Formula) -> str:
    """Return ``formula`` as text, with globals, fields of the kimage and results of calls by name."""
    text = str(formula).removeprefix("<Bool ").removesuffix(">")
    for name in sorted(formula.variables, key=len, reverse=True):
        text = text.replace(name, _name(context, name))
    return _RESULT.sub(lambda match: f"{match[1]}()", text)


def _name(context: KexecContext, name: str) -> str:
    applied = application(var(name))
    if applied is None:
        register, _, function = name.partition("@")
        return "kimage" if register == "x0" and "#" not in function else name
    (address,) = applied.arguments
    place = constant(address)
    if place is not None:
        return f"*{_global(context, place)}"
    for register in ("x0@machine_kexec", "x0@machine_kexec_post_load"):
        offset = offset_from(address, var(register))
        if offset is not None:
            return f"kimage->{_field(context, offset)}"
    return name


def _global(context: KexecContext, address: int) -> str:
    for name, known in context.globals.addresses.items():
        if known == address:
            return name
    names = context.kernel.symbols_at(address)
    return names[0] if names else f"{address:#x}"


def _field(context: KexecContext, offset: int) -> str:
    names = ("head", "start", "control_code_page", "nr_segments", "dtb_mem", "kern_reloc", "el2_vectors")
    for name in (*names, "ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz"):
        if getattr(context.layout, name) == offset:
            return name
    return f"{offset:#x}"
