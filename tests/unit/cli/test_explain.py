"""`verify explain` on a written run.json."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner
from kexec_verify.cli.explain import explain
from kexec_verify.errors import UsageError

from ..gate import examples


@pytest.fixture
def path(tmp_path):
    written = tmp_path / "run.json"
    run = examples.run(examples.claim("claim-a"), examples.refuted(), examples.undecided())
    written.write_bytes(msgspec.json.encode(run))
    return str(written)


def test_every_property_that_is_not_proved(path):
    done = CliRunner().invoke(explain, [path], catch_exceptions=False)
    assert done.exit_code == 0
    assert "claim-refuted: REFUTED" in done.output
    assert "claim-undecided: UNKNOWN" in done.output
    assert "claim-a" not in done.output


def test_the_properties_that_are_named(path):
    done = CliRunner().invoke(explain, [path, "*-refuted"], catch_exceptions=False)
    assert "claim-refuted: REFUTED" in done.output
    assert "claim-undecided" not in done.output
    assert "is proved" in CliRunner().invoke(explain, [path, "claim-a"]).output


def test_an_unknown_property_is_a_usage_error(path):
    with pytest.raises(UsageError, match="has no property nothing; it has claim-a"):
        CliRunner().invoke(explain, [path, "nothing"], catch_exceptions=False)


def test_nothing_to_explain(tmp_path):
    written = tmp_path / "run.json"
    written.write_bytes(msgspec.json.encode(examples.run()))
    assert "nothing to explain" in CliRunner().invoke(explain, [str(written)]).output
