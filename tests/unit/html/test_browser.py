"""Pages in a real browser: nothing is fetched, nothing is logged, folding, keys and links work."""

from __future__ import annotations

import re
import time

import pytest
from kexec_verify.html.index import write_index
from kexec_verify.html.sweep import write_sweep
from kexec_verify.html.write import write_page
from kexec_verify.report.model import PathRecord, Run
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.sweep import journal

from ..sweep.examples import finished, package
from . import example

pytestmark = pytest.mark.browser

MACHINE_KEXEC = example.BASE + 0x1000


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A directory with a page for each verdict, a hostile one, and the index."""
    directory = tmp_path_factory.mktemp("reports")
    for make in example.ALL.values():
        write_page(example.write(make(), directory))
    write_page(example.write_as("hostile", example.hostile(), directory))
    write_page(example.write_as("large", large(), directory))
    for number in range(44, 48):
        row = finished(directory, package(f"6.1.0-{number}-cloud-arm64"), example.ALL["4 PROVED, 1 WAIVED"]())
        journal.add(directory, row)
    write_sweep(directory)
    write_index(directory)
    return directory


def large() -> Run:
    """As many obligations as a kernel's run with every function has."""
    kinds = [
        [example.obligation(f"kind-{k}-{i % 40}", sentence=f"question {i} of claim {k}") for i in range(400)]
        for k in range(10)
    ]
    claims = [example.claim(f"claim-{k}", obligations=required) for k, required in enumerate(kinds)]
    both = [example.function(), example.function("machine_kexec", MACHINE_KEXEC)]
    path = [instruction.address for instruction in both[1].instructions]
    return example.run(
        *claims, name="large", functions=both, paths=[PathRecord(path, "ran with", ["head = 0x4"])]
    )


@pytest.fixture(scope="module")
def chromium(require_tool):
    """Debian's Chromium without a window."""
    from playwright.sync_api import sync_playwright

    path = require_tool("chromium", "chromium")
    with sync_playwright() as playwright:
        # Its sandbox needs privileges that containers and root lack; only our own files are opened.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, reports):
    """A function (page's path, options of the context) that opens it; fails on any message or request."""
    contexts, trouble = [], []

    def opened(path: str, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda asked: None if asked.url.startswith("file:") else trouble.append(f"request: {asked.url}"),
        )
        name, _, place = path.partition("#")
        page.goto((reports / name).as_uri() + (f"#{place}" if place else ""))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("word, make", example.ALL.items())
def test_verdict_is_seen_at_once(visit, word, make, scheme):
    page = visit(f"{make().target.name}/index.html", color_scheme=scheme)
    banner = page.locator(".banner")
    assert banner.locator(".word").inner_text() == word
    assert banner.bounding_box()["y"] < 300
    icon = banner.locator("svg").bounding_box()
    assert icon["width"] > 20 and icon["height"] > 20


@pytest.mark.parametrize("name", [make().target.name for make in example.ALL.values()])
def test_no_page_is_wider_than_a_narrow_screen(visit, name):
    page = visit(f"{name}/index.html", viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_words_stand_out_from_their_ground_in_both_schemes(visit):
    contrast = """node => {
        const parse = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((v) => {
            v = Number(v) / 255;
            return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        });
        const light = (c) => { const [r, g, b] = parse(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const style = getComputedStyle(node);
        const [a, b] = [light(style.color), light(style.backgroundColor)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }"""
    for scheme in ("light", "dark"):
        for name in ("proved", "refuted", "composed"):
            page = visit(f"{name}/index.html", color_scheme=scheme)
            for verdict in page.locator(".verdict").all()[:6]:
                assert verdict.evaluate(contrast) >= 4.5


def test_obligations_unfold_and_fold(visit):
    page = visit("proved/index.html")
    row = page.locator(".obligation").first
    assert not row.is_visible()
    page.locator("#p-reloc-step > summary").click()
    page.locator("#p-reloc-step details.kind > summary").first.click()
    assert row.is_visible()
    page.keyboard.press("c")
    assert not row.is_visible()
    page.keyboard.press("o")
    assert row.is_visible()
    page.get_by_role("button", name="Fold all", exact=True).click()
    assert not row.is_visible()


def test_filter_finds_obligations_by_words(visit):
    page = visit("composed/index.html")
    page.keyboard.press("/")
    page.keyboard.type("terminates holds")
    assert page.locator("#matches").inner_text() == "1 obligations"
    assert page.locator(".obligation:visible").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#matches").inner_text() == ""
    assert page.locator("details.property:visible").count() >= 2


def test_keyboard_reaches_the_report_and_its_sections(visit):
    page = visit("refuted/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("n")
    page.keyboard.press("n")
    assert page.evaluate("scrollY") > 100


def test_link_into_a_fold_opens_it(visit):
    page = visit("proved/index.html#o-reloc-step.reloc-step-part")
    assert page.locator(".obligation").first.is_visible()


def test_links_lead_to_texts_pages_and_lines(visit, reports):
    page = visit("index.html")
    page.get_by_role("link", name="refuted").click()
    assert page.url == (reports / "refuted" / "index.html").as_uri()
    page.get_by_role("link", name="See the run that breaks it.").click()
    assert page.url.endswith("#x-reloc-clean-to-poc")
    page.locator(".refutation .facts a").first.click()
    line = page.locator("tr:target")
    assert "msr sctlr_el1" in line.inner_text() and "bad effect" in line.inner_text()
    page.locator("svg.graph a").first.click()
    assert "ldr x20" in page.locator("tr:target").inner_text()
    page.keyboard.press("o")
    href = page.get_by_role("link", name="SMT-LIB").first.get_attribute("href")
    assert (reports / "refuted" / href).read_text() == "(check-sat)\n"


def test_segment_under_the_pointer_lights_its_blocks(visit):
    page = visit("proved/index.html")
    page.locator("#path-2").hover()
    assert page.locator("g.block.lit").count() == 2
    assert page.locator("tr.lit").count() == 4


def test_page_works_without_a_script(visit):
    page = visit("refuted/index.html", java_script_enabled=False)
    assert not page.locator(".tools").is_visible()
    page.locator("#p-reloc-step > summary").click()
    page.locator("#p-reloc-step details.kind > summary").click()
    assert page.locator("#p-reloc-step .obligation").is_visible()
    assert page.locator("svg.graph").is_visible() and page.locator("svg.list").is_visible()


def test_printed_page_has_verdicts_and_no_tools(visit):
    page = visit("refuted/index.html")
    page.emulate_media(media="print")
    assert not page.locator("header.bar").is_visible() and not page.locator(".tools").is_visible()
    assert page.locator(".banner").is_visible() and page.locator("svg.list").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_attack_from_a_binary_stays_text(visit):
    page = visit("hostile/index.html")
    assert page.locator("h1").inner_text() == example.HOSTILE.replace("\u202e", "\\u202e")
    assert page.evaluate("document.scripts.length") == 1
    page.keyboard.press("o")
    page.locator("summary").first.click()


def test_large_page_is_small_enough_and_opens_quickly(visit, reports):
    assert (reports / "large" / "index.html").stat().st_size < 5_000_000
    started = time.monotonic()
    page = visit("large/index.html")
    page.keyboard.press("/")
    page.keyboard.type("kind-3-7")
    assert page.locator("#matches").inner_text() != ""
    assert time.monotonic() - started < 30


def test_focus_is_seen(visit):
    page = visit("proved/index.html")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_sweep_says_its_verdicts_in_word_and_icon_on_any_screen(visit, scheme):
    page = visit("sweep.html", viewport={"width": 390, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".banner .word").inner_text() == "4 PROVED, except what is waived"
    cells = page.locator("#matrix td.cell")
    assert cells.count() == 4 * 5
    for cell in cells.all()[:5]:
        assert cell.locator("svg").bounding_box()["width"] > 5
        assert cell.inner_text().split() in (["PROVED"], ["REFUTED", "(waived)"])


def test_a_cell_of_a_sweep_leads_to_the_property(visit, reports):
    write_page(reports / "linux-image-6.1.0-44-cloud-arm64" / "run.json")
    page = visit("sweep.html")
    page.locator("#matrix td.cell a").first.click()
    page.wait_for_url("**/linux-image-6.1.0-44-cloud-arm64/index.html#*")
    place = page.url.partition("#")[2]
    assert page.locator(f'[id="{place}"]').is_visible()


def test_proved_obligations_of_a_large_run_are_rendered_when_unfolded(visit):
    page = visit("large/index.html")
    assert page.evaluate("document.querySelectorAll('*').length") < 10_000
    assert page.locator(".obligation").count() == 0
    page.locator("#p-claim-3 > summary").click()
    page.locator("#p-claim-3 details.kind > summary").first.click()
    row = page.locator("#p-claim-3 .obligation").first
    row.wait_for()  # the browser tells of a toggle some time after the click
    assert row.is_visible() and "of claim 3" in row.inner_text() and "z3: unsat" in row.inner_text()
    assert row.get_by_role("link", name="SMT-LIB").get_attribute("href").startswith("obligations/")
    row.locator("summary").click()
    assert row.locator(".given li").first.is_visible()


def test_code_of_a_proved_function_in_a_large_run_is_rendered_when_unfolded(visit):
    page = visit("large/index.html")
    whole = page.locator("#f-machine_kexec details.whole")
    assert page.locator("#f-machine_kexec svg.graph").count() == 0
    whole.locator("summary").first.click()
    line = page.locator(f"#at-{MACHINE_KEXEC:x}")
    line.wait_for()
    assert line.is_visible() and page.locator("#f-machine_kexec svg.graph").is_visible()
    page.locator("#path-1").hover()
    assert "lit" in line.get_attribute("class")


def test_a_link_into_folded_code_of_a_large_run_shows_the_line(visit):
    page = visit(f"large/index.html#at-{MACHINE_KEXEC + 8:x}")
    assert page.locator(f"#at-{MACHINE_KEXEC + 8:x}").is_visible()
    assert page.locator("#f-machine_kexec details.whole").get_attribute("open") is not None


def test_runs_are_filtered_and_sorted(visit):
    page = visit("index.html")
    page.locator("#rows-filter").fill("whole path")
    assert page.locator("table.sortable tbody tr:visible").count() >= 1
    assert "refuted" not in page.locator("table.sortable tbody tr:visible").all_inner_texts()[0]
    page.locator("#rows-filter").fill("")
    page.get_by_role("button", name="target").click()
    names = [text.strip() for text in page.locator("table.sortable tbody td:nth-child(3)").all_inner_texts()]
    assert names == sorted(names, key=str.lower)
    page.get_by_role("button", name="target").click()
    assert page.locator("th[aria-sort=descending]").count() == 1


@pytest.mark.parametrize("name", ["refuted", "composed", "large", "unsupported"])
def test_printed_page_is_short_and_keeps_every_step(visit, name):
    page = visit(f"{name}/index.html")
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(format="A4")))
    assert 0 < pages < 20
    page.emulate_media(media="print")
    for row in page.locator(".steps tbody tr").all():
        assert row.is_visible()
    for head in page.locator(".steps thead th").all():
        assert head.evaluate("node => getComputedStyle(node).position") == "static"


def test_steps_fit_a_phone(visit):
    page = visit("refuted/index.html", viewport={"width": 390, "height": 800})
    for cell in page.locator(".steps td").all():
        assert cell.evaluate("node => node.getBoundingClientRect().right") <= 390
    nav = page.locator(".bar nav a").all()
    assert all(link.bounding_box()["x"] + link.bounding_box()["width"] <= 390 for link in nav)


def test_every_theorem_of_a_sweep_fits_a_laptop(chromium, tmp_path):
    claims = [
        example.claim(claim.id, theorem=claim.theorem, statement=claim.statement)
        for claim in PROPERTIES.values()
    ]
    row = finished(tmp_path, package("6.1.0-44-cloud-arm64"), example.run(*claims))
    journal.add(tmp_path, row)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(write_sweep(tmp_path).as_uri())
    heads = page.locator("#matrix .theorems th").all()
    assert {"T7", "T8"} <= {head.inner_text() for head in heads}
    assert all(head.bounding_box()["x"] + head.bounding_box()["width"] <= 1280 for head in heads)
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.locator("#matrix tbody th", has_text="cloud").bounding_box()["width"] >= 80
    context.close()
