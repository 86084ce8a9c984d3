"""The index over runs."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.html.index import rows, write_index
from kexec_verify.html.write import is_index, write_page

from . import example


def test_worst_runs_come_first_and_link_to_their_pages(tmp_path):
    for make in (example.proved, example.refuted, example.composed):
        write_page(example.write(make(), tmp_path))
    example.write(example.run(name="no page"), tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{}")
    page = write_index(tmp_path).read_text()
    links = ["refuted/index.html", "no%20page/run.json", "proved/index.html", "composed/index.html"]
    places = [page.index(f'href="{link}"') for link in links]
    assert places == sorted(places)
    assert "4 targets" in page and "broken/" not in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html",
        "broken",
        "composed",
        "no page",
        "proved",
        "refuted",
    }


def test_index_of_nothing_says_so(tmp_path):
    assert "None yet" in write_index(tmp_path / "new").read_text()


def test_only_our_own_index_is_told_as_one(tmp_path):
    assert not is_index(tmp_path / "index.html")
    (tmp_path / "index.html").write_text("<title>mine</title>")
    assert not is_index(tmp_path / "index.html")
    assert is_index(write_index(tmp_path))


def test_unwritable_directory_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"expected a directory to write to, found .*file: File exists"):
        write_index(tmp_path / "file")


def test_page_that_cannot_be_written_is_one_clear_line(tmp_path):
    path = example.write(example.proved(), tmp_path)
    (path.parent / "index.html").mkdir()
    with pytest.raises(UsageError, match=r"expected a directory to write to, found .*proved: Is a directory"):
        write_page(path)
    assert {file.name for file in path.parent.iterdir()} == {"run.json", "index.html", "obligations"}


def test_a_run_of_the_routine_alone_does_not_look_better_than_a_whole_kernel(tmp_path):
    for make in (example.proved, example.composed):
        example.write(make(), tmp_path)
    alone, whole = rows(tmp_path)
    assert (alone.directory, alone.headline.scope) == ("proved", "relocation routine alone")
    assert (whole.directory, whole.headline.scope) == ("composed", "whole kexec path")
    assert alone.status.tone == "part"
