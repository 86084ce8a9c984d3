"""Times of properties add up to what all queries cost."""

from __future__ import annotations

import pytest
from kexec_verify.report.times import costs

from ..html import example


def test_a_shared_query_is_counted_once():
    one, two = example.obligation("one", sha256="1" * 64), example.obligation("two", sha256="2" * 64)
    found = costs(
        example.run(example.claim("a", obligations=[one, one]), example.claim("b", obligations=[one, two]))
    )
    each = sum(answer.seconds for answer in one.answers)
    assert each > 0
    assert (found["a"].own, found["a"].shared) == pytest.approx((each, 0))
    assert (found["b"].own, found["b"].shared) == pytest.approx((each, each))
