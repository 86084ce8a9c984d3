"""Which kernels a glob means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.sweep.choose import chosen, in_order, targets

from .examples import package

KNOWN = [
    package("6.1.0-9-arm64", "6.1.27-1"),
    package("6.1.0-56-arm64", "6.1.192-2"),
    package("6.1.0-56-cloud-arm64", "6.1.192-2"),
    package("6.12.117+deb12-arm64-16k", "6.12.117-1~deb12u1"),
    package("6.12.117+deb12-cloud-arm64", "6.12.117-1~deb12u1"),
]


def names(*globs: str) -> list[str]:
    return [p.package.removeprefix("linux-image-") for p in chosen(KNOWN, globs)]


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("6.12*",), [3, 4]),
        (("*cloud*",), [2, 4]),
        (("linux-image-6.1.0-56-arm64",), [1]),
        (("6.1.0-9-arm64", "*-16k"), [0, 3]),
        (("6.1.192-2",), [1, 2]),
        (("*",), [0, 1, 2, 3, 4]),
    ],
)
def test_globs_match_names_with_and_without_the_stem_and_versions(globs, expected):
    assert chosen(KNOWN, globs) == [KNOWN[i] for i in expected]


def test_a_glob_that_matches_nothing_is_refused_though_another_matches():
    with pytest.raises(UsageError, match=r"found '5\.10\*', which matches none of 5"):
        chosen(KNOWN, ("6.1*", "5.10*"))


def test_no_kernels_at_all_is_said():
    with pytest.raises(UsageError, match="expected kernels in the suites"):
        chosen([], ())


def test_a_target_has_its_version_only_where_the_name_has_several():
    older = package("6.1.0-56-arm64", "6.1.190-1")
    known = [*KNOWN, older]
    named = targets([KNOWN[1], older, KNOWN[3]], known)
    assert named == {
        KNOWN[1]: "debian:linux-image-6.1.0-56-arm64=6.1.192-2",
        older: "debian:linux-image-6.1.0-56-arm64=6.1.190-1",
        KNOWN[3]: "debian:linux-image-6.12.117+deb12-arm64-16k",
    }


def test_a_target_has_its_suite_where_it_is_not_the_host_s():
    other, older = replace(KNOWN[2], suite="sid"), replace(KNOWN[0], suite="sid", version="6.1.20-1")
    assert targets([KNOWN[0], older, other], [*KNOWN[:2], older, other]) == {
        KNOWN[0]: "debian:linux-image-6.1.0-9-arm64=6.1.27-1",
        older: "debian:linux-image-6.1.0-9-arm64=6.1.20-1/sid",
        other: "debian:linux-image-6.1.0-56-cloud-arm64/sid",
    }


def test_kernels_of_one_flavour_are_proved_side_by_side():
    mixed = [
        package(f"6.1.0-{n}-{flavour}", f"6.1.{n}-1") for n in (44, 45) for flavour in ("arm64", "rt-arm64")
    ]
    assert [p.flavour for p in in_order(mixed)] == ["arm64", "arm64", "rt-arm64", "rt-arm64"]
