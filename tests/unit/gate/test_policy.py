"""Policies: a key that is misspelt must not be taken for one that allows nothing."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.gate.policy import Mutants, Policy, read_policy

WHOLE = """
required = ["reloc-*"]
assumptions = ["mmu-on"]
waivers = ["reloc-x"]
waiver-files = ["mine.toml"]
same-code = ["arm64_relocate_new_kernel"]

[mutants]
at-least = 100
allow-unsupported = true
"""


def test_every_key(tmp_path):
    (tmp_path / "policy.toml").write_text(WHOLE)
    assert read_policy(tmp_path / "policy.toml") == Policy(
        required=["reloc-*"],
        assumptions=["mmu-on"],
        waivers=["reloc-x"],
        waiver_files=[str(tmp_path / "mine.toml")],
        same_code=["arm64_relocate_new_kernel"],
        mutants=Mutants(at_least=100, allow_unsupported=True),
    )


def test_empty_policy_leaves_waivers_to_the_tools_own_file(tmp_path):
    (tmp_path / "policy.toml").write_text("")
    assert read_policy(tmp_path / "policy.toml") == Policy()
    assert Policy().waivers is None


@pytest.mark.parametrize(
    "text",
    ["waiver = []", "waivers = 'reloc-x'", "[mutants]\nleast = 1", "= 1", "same_code = []", "\xff\x00"],
)
def test_what_is_no_policy_is_refused(tmp_path, text):
    (tmp_path / "policy.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"policy\.toml: expected a policy in TOML, found: "):
        read_policy(tmp_path / "policy.toml")


def test_missing_policy_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected a policy, found: No such file"):
        read_policy(tmp_path / "policy.toml")
