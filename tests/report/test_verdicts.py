"""Verdicts from intervals alone: three answers to every rule, and what many differences do to them."""

import numpy as np
import pytest

from milbench.errors import StoreError
from milbench.report.verdicts import (
    NO_INTERVAL,
    SPANS,
    Contrast,
    Draft,
    Rule,
    Verdict,
    above,
    all_of,
    below,
    contrast,
    gain_of,
    in_one_line,
    judge,
    opposite,
    within,
)
from milbench.stats.arms import Estimate

HELD, NOT_HELD, UNTOLD = Verdict.HELD, Verdict.NOT_HELD, Verdict.UNTOLD


def normal(value: float, error: float = 0.01) -> Contrast:
    """A difference whose draws scatter around it."""
    return Contrast("a − b", value, np.random.default_rng(0).normal(value, error, 10_000))


@pytest.mark.parametrize(
    ("rule", "value", "verdict"),
    [
        (above(), 0.05, HELD), (above(), -0.05, NOT_HELD), (above(), 0.01, UNTOLD),
        (below(), -0.05, HELD), (below(), 0.05, NOT_HELD), (below(), 0.01, UNTOLD),
        (gain_of(0.05), 0.06, HELD), (gain_of(0.05), 0.01, NOT_HELD), (gain_of(0.05), 0.035, HELD),
        (gain_of(0.05), 0.2, HELD), (gain_of(0.01), 0.01, UNTOLD),
        (within(0.05), 0.01, HELD), (within(0.05), -0.09, NOT_HELD), (within(0.05), 0.045, UNTOLD),
    ],
)  # fmt: skip
def test_each_rule_has_three_answers(rule: Rule, value: float, verdict: Verdict) -> None:
    assert judge(1, "", "", [Draft("", [normal(value)], rule)]).verdict is verdict


def test_all_must_hold_and_one_that_does_not_is_enough() -> None:
    assert all_of([HELD, HELD]) is HELD
    assert all_of([HELD, UNTOLD]) is UNTOLD
    assert all_of([HELD, UNTOLD, NOT_HELD]) is NOT_HELD
    assert [opposite(verdict) for verdict in (HELD, NOT_HELD, UNTOLD)] == [NOT_HELD, HELD, UNTOLD]


def test_one_contradiction_among_many_differences_must_survive_the_correction() -> None:
    slight = normal(-0.022)  # about 2.2 standard errors: alone it contradicts, among twenty it does not
    assert judge(1, "", "", [Draft("", [slight], above())]).verdict is NOT_HELD
    many = [slight, *[normal(0.05)] * 19]
    found = judge(1, "", "", [Draft("", many, above())])
    assert found.verdict is UNTOLD
    assert found.why == SPANS
    assert (found.statements[0].n_held, found.statements[0].n_contrasts) == (19, 20)


def test_the_weakest_difference_speaks_for_a_statement() -> None:
    statement = judge(1, "", "", [Draft("", [normal(0.2), normal(0.05)], above())]).statements[0]
    assert statement.value == 0.05
    assert statement.low < 0.05 < statement.high


def test_what_the_stores_lack_is_the_reason_and_has_no_number() -> None:
    def missing() -> Estimate:
        raise StoreError("tcga-crc is not in the stores")

    one = contrast("a − b", missing)
    found = judge(1, "", "", [Draft("", [one], above())])
    assert found.verdict is UNTOLD
    assert found.why == "not in the stores: tcga-crc"
    assert np.isnan(found.statements[0].value)


def test_a_number_without_an_interval_cannot_be_told() -> None:
    found = judge(1, "", "", [Draft("", [contrast("a − b", lambda: Estimate(0.3))], above())])
    assert (found.verdict, found.why) == (UNTOLD, NO_INTERVAL)
    assert found.statements[0].value == 0.3


def test_absent_cohorts_are_named_together() -> None:
    reasons = ["a is not in the stores", "other", "b is not in the stores", "other"]
    assert in_one_line(reasons) == "not in the stores: a, b; other"
