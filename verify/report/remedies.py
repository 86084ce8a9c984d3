"""Say what would make a property right, or what to try next, by property and by reason."""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.verdict import Verdict

_REFUTED = {
    "reloc-clean-to-poc": (
        "Clean the line to the point of coherency (dc civac or dc cvac) after the last store to it, "
        "and complete that with a dsb sy before the MMU goes off or control leaves."
    ),
    "reloc-icache-invalid": (
        "After the last store execute dsb, ic iallu, dsb and isb, in this order, before the branch to "
        "kimage->start."
    ),
    "reloc-context-synced": (
        "Execute an isb between this change of context and the instruction that relies on it."
    ),
    "reloc-break-before-make": (
        "Write the zero page to TTBR1_EL1, then execute isb, tlbi vmalle1 and dsb, then write the new "
        "table, then isb."
    ),
    "reloc-entry-state": (
        "Enter kimage->start with x0 = dtb and x1 = x2 = x3 = 0, interrupts masked and the MMU off."
    ),
    "reloc-memory-safe": (
        "Access only struct kimage, the current list entry, the source page and the destination page."
    ),
    "reloc-dest-pages": ("Copy each source page whole to its destination page, and store nowhere else."),
    "reloc-step": ("Do in each iteration of the list loop what specs/relocate_kernel.py says of its entry."),
    "reloc-terminates": ("Leave the loop at the entry with IND_DONE, and advance in every iteration."),
    "reloc-effects": ("Execute only the system instructions that specs/effects.py allows."),
    "inplace-icache-invalid": (
        "Execute ic iallu, dsb and isb on this path after the image is loaded and before control leaves."
    ),
    "postload-segments-clean": (
        "Clean every segment to the point of coherency in machine_kexec_post_load, over its whole length."
    ),
    "callee-contracts": (
        "Give the callee arguments that its contract in specs/contracts.py allows, or change the callee so "
        "that it keeps its contract."
    ),
    "postload-copies-routine": (
        "Copy the whole routine to the control page, and clean and invalidate the caches for it."
    ),
}


def of_refutation(claim: str, found: str, waived: bool) -> list[str]:
    """Return what would make a refuted property right, a sentence each."""
    remedies = (
        [_REFUTED[claim]]
        if claim in _REFUTED
        else ["Change the code so that what is expected holds at that instruction."]
    )
    if waived:
        remedies.append("This deviation is waived. The waiver says why it is accepted.")
    return [*remedies, "verify replay RUN.json runs the counterexample again."]


def missing(claim: str, found: str, causes: Sequence[str] | None) -> str:
    """Return what never came before the effect, in a sentence; empty where that is not known.

    :param found: the state that was found; ``causes``: the instructions that led to it, None if not recorded.
    """
    if causes is None:
        return ""
    match claim:
        case "reloc-clean-to-poc" if not causes:
            return "No store and no dc in the run touches this line: its state is the one at entry."
        case "reloc-icache-invalid" if not any(text.startswith("ic ") for text in causes):
            return "No ic iallu is executed before control leaves."
        case "reloc-clean-to-poc" if found == "dirty":
            return "No dc cleans this line after the store."
        case "reloc-clean-to-poc" if found.startswith("maintained"):
            return "No DSB completes the maintenance. A dsb nsh completes no maintenance by address."
        case "reloc-icache-invalid" if "stale" in found:
            return "No ic iallu takes effect after the last store: there is none, or no DSB comes before it."
        case "reloc-icache-invalid" if "ISB" in found:
            return "No ISB comes after the DSB that completes the invalidation."
        case "reloc-icache-invalid":
            return "No DSB completes the invalidation."
        case "reloc-context-synced" if causes:
            return "No ISB comes after the change."
    return ""


_UNSUPPORTED = (
    (
        ("loop that", "loop in which", "loop with", "routine without a loop"),
        "Missing: a rule for a loop of this shape (verify/symbolic/loops.py).",
        "Workaround: another compiler or optimisation level may emit a loop that is supported.",
    ),
    (
        ("which has no contract",),
        "Missing: a contract of that callee in specs/contracts.py.",
        "No option works around it: until there is a contract, the caller's proof ends at this call.",
    ),
    (
        ("kernel without", "was not found", "were not found", "whose"),
        "Missing: a function or global that the tool could not locate in this file.",
        "Workaround: verify the vmlinux with its full symbol table, if the distribution has one.",
    ),
    (
        ("instruction", "p-code", "register", "operand", "meaning is not modelled"),
        "Missing: the meaning of this instruction in verify/arm64.",
        "Workaround: build the kernel without the option that emits the instruction. Otherwise it must be "
        "modelled first.",
    ),
    (
        ("pointer to no known object", "unknown offset", "popped"),
        "Missing: which object this address belongs to (verify/symbolic/objects.py).",
        "No option works around it.",
    ),
)


def of_undecided(verdict: Verdict, reason: str, asked: bool, complete: bool) -> list[str]:
    """Return what is missing or what to try for a property that is neither proved nor refuted.

    :param asked: some obligation of it is not proved; ``complete``: the run was not cut short.
    """
    if not complete:
        return ["The run was cut short. Run it again to the end."]
    if verdict is Verdict.UNSUPPORTED:
        for words, *remedies in _UNSUPPORTED:
            if any(word in reason for word in words):
                return list(remedies)
        return ["Missing: the verifier has no model for this code.", "No workaround is known."]
    if verdict is Verdict.VACUOUS:
        return ["The hypotheses cannot all hold. Check the assumptions that the property uses."]
    if verdict is Verdict.CONTRADICTED:
        return [
            "The proof stands only where its assumption holds, and on this kernel it was seen to be false."
        ]
    if verdict is Verdict.ERROR:
        return ["The verifier failed. Report it with run.json."]
    if asked:
        return [
            "An answer of sat has a model, and no run was found that reaches it: read the query.",
            "An answer of unknown may go away with another random seed: verify run --seed 1 --recheck.",
            "verify check RUN.json asks each query again.",
        ]
    return ["No query of it is undecided. Run the properties that it depends on too."]
