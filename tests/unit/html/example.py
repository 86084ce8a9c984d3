"""Runs made by hand, one for each thing that a page can show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from kexec_verify.report.model import (
    SCHEMA,
    AssumptionRecord,
    ContractRecord,
    EndRecord,
    FunctionRecord,
    InstructionRecord,
    InvariantRecord,
    ObligationRecord,
    PatchSiteRecord,
    PathRecord,
    PropertyRecord,
    Run,
    SolverAnswer,
    TargetRecord,
    WaiverRecord,
)
from kexec_verify.verdict import Verdict

BASE = 0xFFFF_8000_0800_0000
HOSTILE = "<script>alert('x')</script>\"&\u202e{{ 7 * 7 }}"

# offset, text, offsets of what follows (None: the next one), event
_BODY: list[tuple[str, list[int] | None, str]] = [
    ("ldr x20, [x0]", None, ""),
    ("tbz w20, #0x3, {name}+0x1c/0x2c", [0x8, 0x1C], ""),
    ("ldp x1, x2, [x12]", None, ""),
    ("stnp x1, x2, [x13]", None, ""),
    ("b.ne {name}+0x8/0x2c", [0x14, 0x8], ""),
    ("dc CIVAC, x13", None, "DC_CIVAC"),
    ("dsb SY", None, "DataSynchronizationBarrier"),
    ("ldr x20, [x14], #0x8", None, ""),
    ("tbz w20, #0x2, {name}+0x4/0x2c", [0x24, 0x4], ""),
    ("msr sctlr_el1, x12", None, "msr sctlr_el1"),
    ("br x28", [], ""),
]


def function(
    name: str = "arm64_relocate_new_kernel", base: int = BASE, covered: bool = True
) -> FunctionRecord:
    """A routine with a loop over a list and an inner loop."""
    instructions = [
        InstructionRecord(
            base + 4 * i,
            0xD503201F + i,
            text.format(name=name),
            [base + 4 * i + 4] if then is None else [base + offset for offset in then],
            event,
            covered,
        )
        for i, (text, then, event) in enumerate(_BODY)
    ]
    return FunctionRecord(
        name=name,
        address=base,
        size=4 * len(_BODY),
        sha256="ab" * 32,
        found_by=f"symbol {name}",
        variant="kimage",
        page_size=4096,
        roles={"entry": "x20", "ptr": "x14", "dest": "x13"},
        layout={"head": 0, "start": 24},
        layout_from="BTF",
        instructions=instructions,
        loops=[base + 4, base + 8],
        invariants=[
            InvariantRecord(base + 8, "x13 = x13₀ + progress"),
            InvariantRecord(base + 8, "memory = memory₀ with [x13₀, +progress) = copy of [x12₀, +progress)"),
        ],
    )


def obligation(name: str, verdict: Verdict = Verdict.PROVED, **changed: Any) -> ObligationRecord:
    """An obligation about the second instruction, answered as its verdict says."""
    answer = "unsat" if verdict is Verdict.PROVED else "sat"
    made = ObligationRecord(
        name=name,
        sentence=f"what {name} says holds",
        verdict=verdict,
        at=BASE + 4,
        where="arm64_relocate_new_kernel+0x4/0x2c",
        path=[BASE + 4, BASE + 8, BASE + 12, BASE + 16],
        hypotheses=["mmu-on", "branch taken at 0xffff800008000004", "mmu-on"],
        used=["mmu-on"],
        idle=False,
        answers=[SolverAnswer("z3", answer, 0.012), SolverAnswer("bitwuzla", answer, 0.034)],
        text=f"obligations/{'0' * 24}.smt2",
        sha256="0" * 64,
    )
    return msgspec.structs.replace(made, **changed)


def claim(name: str, verdict: Verdict = Verdict.PROVED, **changed: Any) -> PropertyRecord:
    """A property with one obligation of its verdict, which its waiver names if it has one."""
    made = PropertyRecord(
        id=name,
        theorem="T1",
        statement=f"The statement of {name}.",
        verdict=verdict,
        reason="" if verdict is Verdict.PROVED else f"why {name} is {verdict}",
        rests_on=[],
        assumptions=["mmu-on"],
        seconds=0.5,
        obligations=[obligation(f"{name}-part", verdict)],
    )
    made = msgspec.structs.replace(made, **changed)
    if made.waiver is None:
        return made
    named = msgspec.structs.replace(made.waiver, obligation=made.obligations[0].name)
    return msgspec.structs.replace(made, waiver=named)


def list_counterexample(words: int = 4) -> dict[str, Any]:
    """A counterexample with a list, as it comes back from run.json."""
    shift = 0x1_0000_4000_0000
    pages = [0x4800_1000, 0x4800_6000, 0x4801_0000]
    listed = [
        {"index": 0, "address": None, "value": 0x4800_1002, "flag": "INDIRECTION", "page": pages[0]},
        {"index": 1, "address": pages[0] - shift & 2**64 - 1, "value": 0x4800_6001, "flag": "DESTINATION"}
        | {"page": pages[1]},
    ]
    for index in range(2, words - 1):
        value = pages[2] + 4096 * (index - 2)
        at = (pages[0] - shift + 8 * (index - 1)) & 2**64 - 1
        listed.append({"index": index, "address": at, "value": value | 8, "flag": "SOURCE", "page": value})
    listed.append({"index": words, "address": 0, "value": 4, "flag": "DONE", "page": 0})
    seen = {page: (page - shift) & 2**64 - 1 for page in pages}
    return {
        "property": "reloc-clean-to-poc",
        "effect": f"when SCTLR_EL1 is written, word {seen[pages[1]] + 64:#x}: expected clean, found dirty",
        "at": BASE + 0x24,
        "where": "arm64_relocate_new_kernel+0x24/0x2c",
        "expected": "clean to the point of coherency",
        "found": "dirty",
        "scenario": {
            "page_size": 4096,
            "phys_offset": shift,
            "dminline": 4,
            "well_formed": True,
            "kimage_at": 0xFFFF_0000_0801_A200,
            "el2_vectors": 1,
            "hvc": "refused",
        },
        "kimage": {"head": 0x4800_1002, "start": 0x4800_6044},
        "list": listed,
        "pages": [
            {"physical": page, "seen": seen[page], "roles": [role]}
            for page, role in zip(pages, ("list", "destination", "source"), strict=True)
        ],
        "path": [
            {"address": BASE + 0x20, "where": "arm64_relocate_new_kernel+0x20/0x2c", "text": "tbz w20, #0x2"}
            | {"changed": {}},
            {
                "address": BASE + 0x24,
                "where": "arm64_relocate_new_kernel+0x24/0x2c",
                "text": "msr sctlr_el1, x12",
            }
            | {"changed": {"x12": 0x3050_0800}},
        ],
        "instructions": 1078,
        "registers": {"x0": 0, "x12": 0x3050_0800},
        "system": {"sctlr_el1": 0x3050_0800},
        "end": "br",
    }


def call_counterexample(name: str = "machine_kexec") -> dict[str, Any]:
    """A counterexample of a function that is called with bad inputs."""
    return {
        "kind": "call",
        "function": name,
        "property": "mk-flushed",
        "obligation": "every segment is clean to the point of coherency before the branch",
        "inputs": {"kimage->head": "0x48001002", "in_kexec_crash": "0x1"},
        "expected": "clean",
        "found": "dirty",
        "effect": "the word at 0x48001000 is dirty when the routine is entered",
        "at": BASE + 0x1_0024,
        "steps": [
            {"address": BASE + 0x1_0020, "text": "ldr x1, [x0]", "changed": {"x1": "0x48001002"}},
            {"address": BASE + 0x1_0024, "text": "bl dcache_clean_poc", "changed": {}},
        ],
    }


WAIVER = WaiverRecord("accepted by the maintainers", "arch/arm64/kernel/machine_kexec.c", "", "*")


def run(*properties: PropertyRecord, name: str = "vmlinux", **changed: Any) -> Run:
    """A run with these properties."""
    made = Run(
        schema=SCHEMA,
        tool="kexec-verify 0.1.0",
        started="2025-01-01T00:00:00+00:00",
        seconds=12.5,
        complete=True,
        target=TargetRecord(name, f"/boot/{name}", "elf", "12" * 32, "34" * 20, "6.1.0-56-arm64"),
        functions=[function()],
        properties=list(properties),
        assumptions=[
            AssumptionRecord(
                "mmu-on",
                "The routine is entered with SCTLR_EL1.M and .C set.",
                "arch/arm64/kernel/machine_kexec.c",
                True,
                [record.id for record in properties],
                {"sctlr_el1@entry": "0x5"},
            ),
            AssumptionRecord("machine-quiet", "One CPU runs.", "kernel/kexec_core.c", False, [], {}),
        ],
        paths=[
            PathRecord([BASE], "no words but IND_DONE", ["0x48001002", "0x4"]),
            PathRecord([BASE + 4, BASE + 8, BASE + 12, BASE + 16], "one page", ["0x48001002", "0x4"]),
            PathRecord([BASE + 4, BASE + 0x1C, BASE + 0x20], "", []),
        ],
        versions={"python": "3.12.1", "z3-solver": "5.3.1.0"},
        stages={"variant": 0.1, "execution": 0.4, "solving": 6.0},
    )
    return msgspec.structs.replace(made, **changed)


def proved(name: str = "proved") -> Run:
    """All is proved."""
    return run(
        claim("reloc-step"), claim("reloc-dest-pages", theorem="T3", rests_on=["reloc-step"]), name=name
    )


def refuted(name: str = "refuted") -> Run:
    """One property is broken by a list."""
    broken = claim("reloc-clean-to-poc", Verdict.REFUTED, theorem="T5", counterexample=list_counterexample())
    return run(claim("reloc-step"), broken, name=name)


def undecided(verdict: Verdict, name: str = "") -> Run:
    """One property is neither proved nor refuted; its instructions are on no path."""
    functions = [function(covered=False)]
    opened = claim("reloc-step", verdict, reason="instruction pacia x0, x0 at 0x4")
    return run(opened, functions=functions, paths=[], name=name or str(verdict).lower())


def composed(name: str = "composed") -> Run:
    """T8 with its parts in two functions, one of them waived; contracts, ends, a call's counterexample."""
    waived = claim(
        "mk-flushed",
        Verdict.REFUTED,
        theorem="T6",
        function="machine_kexec",
        counterexample=call_counterexample(),
        waiver=WAIVER,
    )
    whole = claim(
        "kexec-reaches-entry", theorem="T8", parts=["mk-flushed", "way-in", "reloc-step"], obligations=[]
    )
    way_in = claim("way-in", theorem="T7", parts=["reloc-step"], function="cpu_soft_restart")
    return run(
        claim("reloc-step"),
        way_in,
        waived,
        whole,
        claim("reloc-terminates", theorem="T4"),
        name=name,
        functions=[
            function(),
            msgspec.structs.replace(
                function("machine_kexec", BASE + 0x1_0000),
                patch_sites=[
                    PatchSiteRecord(
                        BASE + 0x1_0008, "HAS_CNP", "TTBRs may have CnP.", ["nop"], ["isb"], True
                    ),
                    PatchSiteRecord(BASE + 0x1_000C, "capability 9 (<b>)", "", ["nop"], [], False),
                ],
            ),
        ],
        contracts=[
            ContractRecord("dcache_clean_poc", "cleans the lines of a range", "assumed"),
            ContractRecord("cpu_soft_restart", "does not return", "proved"),
        ],
        ends=[
            EndRecord(
                "machine_kexec", BASE + 0x1_0008, "machine_kexec+0x8/0x2c", "BUG", ["in_kexec_crash = 0"]
            ),
            EndRecord("elsewhere", 0x1000, "elsewhere+0x0/0x4", "WARN", []),
        ],
        notes=[
            "what is proved holds for every choice of kvm_protected_mode_initialized@is_hyp_nvhe+0x4/0x44"
        ],
    )


def hostile() -> Run:
    """Every text that comes from a binary, or could, is an attack."""
    bad = {**call_counterexample(HOSTILE), "where": HOSTILE, "effect": HOSTILE, "expected": HOSTILE}
    bad["inputs"] = {HOSTILE: HOSTILE}
    bad["steps"] = [{"address": BASE, "text": HOSTILE, "changed": {HOSTILE: HOSTILE}}]
    listed = {**list_counterexample(), "effect": HOSTILE, "where": HOSTILE}
    listed["list"] = [{**word, "flag": HOSTILE} for word in listed["list"]]
    listed["pages"] = [{**page, "roles": [HOSTILE]} for page in listed["pages"]]
    listed["kimage"] = {HOSTILE: 1}
    odd = {"kind": HOSTILE, HOSTILE: HOSTILE}
    attacked = msgspec.structs.replace(
        function(HOSTILE),
        found_by=HOSTILE,
        roles={HOSTILE: HOSTILE},
        layout={HOSTILE: 0},
        layout_from=HOSTILE,
        invariants=[InvariantRecord(BASE + 8, HOSTILE)],
    )
    required = obligation(
        HOSTILE, Verdict.UNKNOWN, sentence=HOSTILE, where=HOSTILE, hypotheses=[HOSTILE], used=[HOSTILE]
    )
    links = obligation("links", text=f"javascript:{HOSTILE}")
    made = run(
        claim(
            HOSTILE,
            Verdict.REFUTED,
            statement=HOSTILE,
            theorem=HOSTILE,
            function=HOSTILE,
            obligations=[required, links],
            counterexample=bad,
            waiver=WaiverRecord(HOSTILE, f"javascript:{HOSTILE}", HOSTILE, "*"),
        ),
        claim("listed", Verdict.REFUTED, counterexample=listed, reason=HOSTILE),
        claim("odd", Verdict.REFUTED, counterexample=odd, parts=[HOSTILE]),
        name="hostile",
        functions=[attacked],
        assumptions=[AssumptionRecord(HOSTILE, HOSTILE, HOSTILE, True, [HOSTILE], {HOSTILE: HOSTILE})],
        paths=[PathRecord([BASE], HOSTILE, [HOSTILE])],
        versions={HOSTILE: HOSTILE},
        stages={HOSTILE: 1.0},
        contracts=[ContractRecord(HOSTILE, HOSTILE, "assumed")],
        ends=[EndRecord(HOSTILE, BASE, HOSTILE, HOSTILE, [HOSTILE])],
        tool=HOSTILE,
        started=HOSTILE,
    )
    return msgspec.structs.replace(
        made, target=TargetRecord(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    )


def write(made: Run, reports: Path) -> Path:
    """Write ``made`` under ``reports`` with the one text that its obligations name; the path of run.json."""
    return write_as(made.target.name, made, reports)


def write_as(name: str, made: Run, reports: Path) -> Path:
    """The same in a directory of another name."""
    directory = reports / name
    (directory / "obligations").mkdir(parents=True)
    (directory / "obligations" / f"{'0' * 24}.smt2").write_text("(check-sat)\n")
    path = directory / "run.json"
    path.write_bytes(msgspec.json.encode(made))
    return path


ALL = {
    "PROVED": proved,
    "REFUTED": refuted,
    "UNKNOWN": lambda: undecided(Verdict.UNKNOWN),
    "UNSUPPORTED": lambda: undecided(Verdict.UNSUPPORTED),
    "VACUOUS": lambda: undecided(Verdict.VACUOUS),
    "ERROR": lambda: undecided(Verdict.ERROR),
    "4 PROVED, 1 WAIVED": composed,
}
"""A run for each way in which a page can begin, by the word that it begins with."""
