"""One run's page: complete, self-contained, and safe whatever is in run.json."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser

import msgspec
import pytest
from kexec_verify.check.model import AnswerRecord, CertificateRecord, Check, TextRecord
from kexec_verify.html import deferred
from kexec_verify.html.companion_files import CompanionFiles
from kexec_verify.html.page import run_page
from kexec_verify.html.tree import TITLES
from kexec_verify.report.model import AssumptionRecord, Run
from kexec_verify.verdict import Verdict

from . import example

VOID = {"meta", "link", "input", "br"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: list[Element] = field(default_factory=list)


class Tree(HTMLParser):
    """Every element of a page, in order; fails on unbalanced ones."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        assert len(attrs) == len(element.attributes), f"{tag} has an attribute twice"
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop().name == tag

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        return [element for element in self.elements if element.name == name]

    def with_class(self, name: str) -> list[Element]:
        return [e for e in self.elements if name in (e.attributes.get("class") or "").split()]

    @property
    def ids(self) -> list[str]:
        return [i for e in self.elements if (i := e.attributes.get("id"))]


NOTHING = CompanionFiles()


def tree(run: Run, near: CompanionFiles = NOTHING) -> Tree:
    return Tree(run_page(run, near, f"reports/{run.target.name}/run.json"))


RUNS = {**example.ALL, "hostile": example.hostile}


@pytest.mark.parametrize("word", example.ALL)
def test_page_begins_with_the_verdict_as_word_icon_and_colour(word):
    page = tree(example.ALL[word]())
    (banner,) = page.with_class("banner")
    assert page.with_class("word")[0].text == word
    assert page.all("title")[0].text.startswith(f"{word} · ")
    tone = {"PROVED": "good", "REFUTED": "bad", "ERROR": "bad"}.get(word, "warn")
    assert tone in banner.attributes["class"].split()


@pytest.mark.parametrize("name", RUNS)
def test_every_shown_verdict_has_a_word_and_an_icon_that_exists(name):
    page = tree(RUNS[name]())
    symbols = {f"#{element.attributes['id']}" for element in page.all("symbol")}
    assert page.with_class("verdict")
    assert all(element.text.strip() for element in page.with_class("verdict"))
    assert {element.attributes["href"] for element in page.all("use")} <= symbols


@pytest.mark.parametrize("name", RUNS)
def test_identifiers_are_unique_and_every_link_leads_somewhere(name):
    page = tree(RUNS[name]())
    assert len(page.ids) == len(set(page.ids))
    for link in page.all("a"):
        target = link.attributes["href"]
        if target.startswith("#"):
            assert target[1:] in page.ids, target
        else:
            assert target in {"run.json", "../index.html", f"obligations/{'0' * 24}.smt2"}


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_loaded_from_anywhere(name):
    page = tree(RUNS[name]())
    for element in page.elements:
        assert "src" not in element.attributes
    assert [e.attributes["href"] for e in page.all("link")] == ["data:,"]
    (style,) = page.all("style")
    assert "url(" not in style.text and "@import" not in style.text
    (policy,) = [e for e in page.all("meta") if "http-equiv" in e.attributes]
    assert policy.attributes["content"].startswith("default-src 'none'; ")


def test_names_in_a_binary_stay_text():
    plain, attacked = tree(example.proved()), tree(example.hostile())
    assert len(attacked.all("script")) == 1
    assert attacked.all("script")[0].text == plain.all("script")[0].text
    shown = example.HOSTILE.replace("\u202e", "\\u202e")
    assert attacked.all("h1")[0].text == shown
    assert sum(element.text == shown for element in attacked.all("code")) > 10
    assert all("\u202e" not in element.text for element in attacked.elements)
    for element in attacked.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        assert not (element.attributes.get("href") or "").startswith("javascript:")


def test_proved_page_says_what_for_which_bytes_and_under_what():
    run = example.proved()
    words = tree(run).all("main")[0].text
    for record in run.properties:
        assert record.statement in words
    for part in (run.target.sha256, run.target.build_id, run.target.version, run.assumptions[0].sentence):
        assert part in words
    assert "What is not proved" not in words
    assert "What is not proved" in tree(example.refuted()).all("main")[0].text


def test_waived_property_is_amber_counted_apart_and_never_green():
    run = example.composed()
    page = tree(run)
    (waived,) = [record for record in run.properties if record.waived]
    shown = [e for e in page.with_class("verdict") if "waived" in e.text]
    assert len(shown) >= 3 and all("warn" in e.attributes["class"] for e in shown)
    assert "good" not in page.with_class("banner")[0].attributes["class"]
    assert waived.waiver.reason in page.all("main")[0].text
    only = tree(example.run(waived))
    assert not only.with_class("good")
    assert (
        "REFUTED (waived)" in only.with_class("banner")[0].text or "WAIVED" in only.with_class("word")[0].text
    )


def test_run_that_was_cut_short_is_not_green():
    page = tree(example.run(example.claim("a"), complete=False))
    assert page.with_class("word")[0].text == "INCOMPLETE"
    assert "warn" in page.with_class("banner")[0].attributes["class"]


def test_run_of_nothing_is_not_green():
    page = tree(example.run(functions=[example.function()]))
    assert "warn" in page.with_class("banner")[0].attributes["class"]
    assert "looked at no property" in page.with_class("banner")[0].text


def test_what_boot_patches_is_a_table_of_its_function():
    (table,) = [found.text for found in tree(example.composed()).with_class("patched")]
    assert "HAS_CNP" in table and "TTBRs may have CnP." in table and "each way" in table
    assert "capability 9 (<b>)" in table and "made by a function of the kernel" in table
    assert table.count("as linked") == 1


def test_composed_property_holds_its_parts_each_once():
    page = tree(example.composed())
    properties = [e for e in page.with_class("property")]
    assert [e.attributes["id"] for e in properties] == [
        "p-kexec-reaches-entry",
        "p-mk-flushed",
        "p-way-in",
        "p-reloc-step",
        "p-reloc-terminates",
    ]
    assert "The statement of way-in." in properties[0].text
    assert [e.text.split()[-3:] for e in page.with_class("again")] == [["reloc-step", "(shown", "above)"]]


def test_parts_that_name_each_other_end():
    both = [example.claim("a", parts=["b"]), example.claim("b", parts=["a"])]
    assert {e.attributes["id"] for e in tree(example.run(*both)).with_class("property")} == {"p-a", "p-b"}


def test_obligation_shows_what_carries_it():
    page = tree(example.proved())
    row = page.with_class("obligation")[0].text
    for part in (
        "what reloc-step-part says holds",
        "z3: unsat, 12.0 ms",
        "bitwuzla: unsat, 34.0 ms",
        "path 2",
    ):
        assert part in row
    assert "2 hypotheses, 1 needed" in row


def test_equal_queries_are_shown_once_and_counted_each():
    required = example.obligation("o")
    page = tree(
        example.run(example.claim("a", obligations=[required, required, example.obligation("o", at=None)]))
    )
    assert len(page.with_class("obligation")) == 2
    assert "(2 times the same query)" in page.with_class("obligation")[0].text
    assert "3/3 obligations" in page.with_class("property")[0].text


def test_certificates_of_a_check_are_shown():
    text = f"obligations/{'0' * 24}.smt2"
    certificate = CertificateRecord("certified", "", 10, 20, 30, 0.1, "a" * 64, "b" * 64)
    answers = [AnswerRecord("z3", "unsat", 0.1)]
    record = TextRecord(text, "0" * 64, Verdict.PROVED, answers, True, True, certificate)
    check = Check(1, "t", "0" * 64, 1.0, {"z3": "z3 5"}, 2, [record], [], 2, {}, [], True, [], [], 0)
    words = tree(example.proved(), CompanionFiles(check=check)).all("main")[0].text
    assert "certificate: certified, SAT proof of 30 steps" in words
    assert "2 of 2 obligations certified" in words
    faulty = msgspec.structs.replace(check, faults=["reloc-step: claimed PROVED"])
    assert "1 faults" in tree(example.proved(), CompanionFiles(check=faulty)).all("main")[0].text


def test_system_instruction_says_what_it_stands_for():
    (line,) = [e for e in tree(example.proved()).all("tr") if "dc CIVAC" in e.text]
    assert "cleans and invalidates one data-cache line" in line.text


def test_list_counterexample_is_drawn_and_ends_in_its_bad_effect():
    page = tree(example.refuted())
    assert "verify replay reports/refuted/run.json" in page.with_class("refutation")[0].text
    (drawn,) = page.with_class("list")
    assert [e.text for e in page.elements if e.name == "g" and "word" in e.attributes["class"].split()]
    assert "copy" in drawn.text and "0x48006000" in drawn.text
    (steps,) = page.with_class("steps")
    assert steps.text.rstrip().endswith("first bad effect")
    assert "1078" in steps.text and "x12 = 0x30500800" in steps.text
    assert "bad effect at +0x40" in page.with_class("map")[0].text


def test_long_list_is_cut_in_the_middle():
    broken = example.claim(
        "a", Verdict.REFUTED, counterexample=example.list_counterexample(words=400), reason="r"
    )
    page = tree(example.run(broken))
    assert "… 376 words more …" in page.with_class("list")[0].text


def test_call_counterexample_is_shown():
    words = tree(example.composed()).with_class("refutation")[0].text
    for part in (
        "every segment is clean",
        "kimage->head",
        "0x48001002",
        "bl dcache_clean_poc",
        "machine_kexec+0x24",
    ):
        assert part in words


def test_run_of_a_function_has_its_memory_and_folds_what_a_call_may_change():
    shown = example.call_counterexample()
    shown["given"] = {
        "start": example.BASE + 0x1_0000,
        "registers": {"x0": 0x10_0000, "sp": 0x20_8000, "sp_el0": 0x30_0000},
        "pages": [0x10_0000, 0x20_7000, 0x30_0000, example.BASE, 0x7000_0000],
    }
    shown["steps"][1]["changed"] = {"x0": "0x1", "x1": "0xdead01", "x30": "0xdead30", "ttbr0_el1": "0x2"}
    page = tree(example.run(example.claim("a", Verdict.REFUTED, counterexample=shown)))
    (drawn,) = page.with_class("map")
    for role in ("struct kimage", "stack frame", "current task", "kernel image", "memory"):
        assert role in drawn.text
    assert "physical" not in drawn.text
    (lost,) = page.with_class("lost")
    assert "2 registers that the call may change" in lost.text
    assert "0xdead30" in lost.text and "ttbr0_el1" not in lost.text


def test_run_that_breaks_two_properties_is_shown_once():
    shown = example.call_counterexample()
    broken = [
        example.claim(name, Verdict.REFUTED, counterexample={**shown, "property": name})
        for name in ("a", "b")
    ]
    first, second = tree(example.run(*broken)).with_class("refutation")
    assert "kimage->head" in first.text and "kimage->head" not in second.text
    assert "The run that breaks a, shown above, breaks it too." in second.text


def test_obligation_that_a_run_breaks_says_so():
    shown = example.call_counterexample()
    required = example.obligation(
        "mk-flushed", Verdict.UNKNOWN, sentence=shown["obligation"], at=shown["at"], where=""
    )
    other = example.obligation("mk-other", Verdict.UNKNOWN)
    page = tree(
        example.run(example.claim("a", Verdict.REFUTED, counterexample=shown, obligations=[required, other]))
    )
    assert [("a run breaks it" in e.text) for e in page.with_class("obligation")] == [True, False]


def test_call_of_a_function_on_the_page_leads_to_it():
    caller = example.function()
    call = msgspec.structs.replace(caller.instructions[6], text="bl machine_kexec")
    caller = msgspec.structs.replace(
        caller, instructions=[*caller.instructions[:6], call, *caller.instructions[7:]]
    )
    callee = example.function("machine_kexec", example.BASE + 0x1_0000)
    page = tree(example.run(example.claim("a"), functions=[caller, callee]))
    (link,) = [
        e for e in page.all("a") if e.text == "machine_kexec" and e.attributes["href"] == "#f-machine_kexec"
    ][-1:]
    assert link.attributes["href"][1:] in page.ids


def test_what_says_the_most_comes_first_and_no_reason_is_said_twice():
    part = example.claim("part", Verdict.UNKNOWN, reason="a timeout")
    whole = example.claim(
        "whole", Verdict.UNKNOWN, reason="its part part is UNKNOWN: a timeout", parts=["part"], obligations=[]
    )
    page = tree(example.run(example.claim("small"), part, whole))
    assert len(page.with_class("why")) == 1
    joined = example.claim("joined", parts=["small"])
    claims = tree(example.run(example.claim("small"), joined)).with_class("claims")[0].text
    assert claims.index("joined") < claims.index("The statement of small")


def test_hypotheses_name_places_as_the_kernel_prints_them():
    (given, *_) = tree(example.proved()).with_class("given")
    assert "branch taken at arm64_relocate_new_kernel+0x4/0x2c" in given.text


def test_counterexample_of_an_unknown_kind_is_shown_as_it_is():
    odd = example.claim("a", Verdict.REFUTED, counterexample={"kind": "new", "shape": "round"})
    words = tree(example.run(odd)).with_class("refutation")[0].text
    assert "shape" in words and "round" in words


def test_instructions_that_no_path_ran_are_marked():
    page = tree(example.undecided(Verdict.UNSUPPORTED))
    assert len([e for e in page.all("tr") if "uncovered" in (e.attributes.get("class") or "")]) == 11
    assert not [e for e in page.all("g") if "proved" in (e.attributes.get("class") or "").split()]


def test_page_is_the_same_each_time():
    run = example.composed()
    assert run_page(run, CompanionFiles(), "x") == run_page(run, CompanionFiles(), "x")


def test_reporting_needs_no_lifter(tmp_path):
    path = example.write(example.refuted(), tmp_path)
    script = (
        "import sys; from kexec_verify.cli import main; sys.argv = ['verify', 'report', sys.argv[1]]\n"
        "try:\n    main()\nfinally:\n"
        "    loaded = {'angr', 'claripy', 'unicorn', 'z3', 'pypcode'} & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (path.parent / "index.html").is_file()


def test_headline_says_what_is_proved_of_which_bytes_and_what_not():
    banner = tree(example.refuted()).with_class("banner")[0].text
    assert "Proved: 1 of 2 properties of the relocation routine" in banner
    assert f"SHA-256 {'12' * 6}…, under 1 assumption." in banner
    assert "1 refuted by a concrete run" in banner and "are not in this run" in banner
    whole = tree(example.composed()).with_class("banner")[0].text
    assert "Scope: whole kexec path" in whole and "1 callee assumed" in whole


@pytest.mark.parametrize(
    ("used", "covered"),
    [
        (["patched-as-tables-say"], True),
        (["patched-as-tables-say", "alternatives-unapplied"], False),
        ([], False),
    ],
)
def test_headline_says_whether_the_proofs_are_for_every_choice_of_boot(used, covered):
    run = example.composed()
    known = [AssumptionRecord(name, name, "source", False, ["mk-exit"], {}) for name in used]
    banner = tree(msgspec.structs.replace(run, assumptions=known)).with_class("banner")[0].text
    assert ("for every choice that boot makes" in banner) == covered
    assert ("what boot patches on some machines only" in banner) != covered


def test_unsupported_page_leads_with_the_cause():
    banner = tree(example.undecided(Verdict.UNSUPPORTED)).with_class("banner")[0].text
    assert banner.index("instruction pacia") < banner.index("Missing: ") < banner.index("Not proved")


def test_counterexample_shows_the_cause_before_the_symptom():
    cause = {"step": 7, "at": 0x10, "where": "f+0x0/0x8", "text": "str x0, [x1]", "sentence": "stores"}
    shown = {**example.list_counterexample(), "causes": [cause], "found": "dirty"}
    broken = example.claim("reloc-clean-to-poc", Verdict.REFUTED, counterexample=shown)
    text = tree(example.run(broken)).with_class("refutation")[0].text
    assert text.index("step 7, f+0x0/0x8") < text.index("No dc cleans") < text.index("First bad effect")
    assert "dc civac" in text


def test_data_of_a_large_run_cannot_end_its_element():
    bad = "</script><script>alert(1)</script><!--&"
    required = [example.obligation("o", sentence=f"{bad}{number}") for number in range(deferred.MOST + 1)]
    page = run_page(example.run(example.claim("a", obligations=required)), CompanionFiles(), "run.json")
    data = page.split('id="deferred">')[1].split("</script>")[0]
    assert "<" not in data and ">" not in data
    read = json.loads(data)
    rows = read["kinds"]["o-a.o"]
    assert [read["strings"][row[0]] for row in rows] == [each.sentence for each in required]


def test_property_that_is_not_proved_says_why_in_the_list():
    blocked = example.claim("a", Verdict.UNKNOWN, reason="blocked by b, which is REFUTED")
    (claims, *_) = tree(example.run(blocked, example.claim("b"))).with_class("claims")
    assert "Reason: blocked by b, which is REFUTED." in claims.text


def test_obligations_of_a_proved_property_have_no_badge_of_their_own():
    failing = [example.obligation("b-step"), example.obligation("b-end", Verdict.UNKNOWN)]
    undecided = example.claim("b", Verdict.UNKNOWN, obligations=failing)
    proved = example.claim("a", obligations=[example.obligation("a-step")])
    shown = [e.text for e in tree(example.run(proved, undecided)).all("summary")]

    def badge(name: str) -> list[str]:
        (text,) = [text for text in shown if name in text]
        return [word for word in ("PROVED", "UNKNOWN") if word in text]

    assert (badge("a-step"), badge("b-step"), badge("b-end")) == ([], ["PROVED"], ["UNKNOWN"])


def test_theorems_are_explained_where_they_appear():
    page = tree(example.proved())
    badge = page.with_class("theorem")[0]
    assert badge.attributes["title"] == TITLES[badge.text]
    (section,) = [e for e in page.all("section") if e.attributes.get("id") == "theorems"]
    assert "T4, termination;" in section.text


def test_path_is_written_as_runs_of_instructions():
    page = tree(example.proved())
    paths = [e.attributes["data-path"] for e in page.all("li") if "data-path" in e.attributes]
    assert paths and all(re.fullmatch(r"[0-9a-f]+\+\d+( [0-9a-f]+\+\d+)*", path) for path in paths)
