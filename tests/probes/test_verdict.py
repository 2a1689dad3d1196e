"""Verdicts hold for every seed, against a stated bar."""

import math

import pytest

from milbench.probes.catalogue import PROBES
from milbench.probes.verdict import Score, verdict_of


def scores(*aurocs: float, best: float = 1.0) -> list[Score]:
    return [Score(auroc, best, 1e-3, 2.0) for auroc in aurocs]


@pytest.mark.parametrize(
    ("aurocs", "word"),
    [
        ((0.95, 0.91, 1.0), "pass"),
        ((0.95, 0.89, 1.0), "unsure"),
        ((0.6, 0.89, 0.5), "fails"),
        ((0.1, 0.39), "cheats"),
        ((0.1, 0.41), "fails"),
        ((0.1, 0.95), "unsure"),
        ((0.95,), "pass"),
    ],
)
def test_the_verdict_is_what_all_seeds_say(aurocs: tuple[float, ...], word: str) -> None:
    verdict = verdict_of(PROBES["presence"], scores(*aurocs))
    assert verdict.verdict == word
    assert (verdict.low, verdict.high, verdict.seeds) == (min(aurocs), max(aurocs), len(aurocs))
    assert verdict.seconds == 2.0 * len(aurocs)


def test_a_test_without_a_trap_calls_nobody_a_cheat() -> None:
    assert verdict_of(PROBES["count"], scores(0.1, 0.2)).verdict == "fails"


def test_the_bar_is_a_share_of_the_way_to_the_best_possible_score() -> None:
    assert verdict_of(PROBES["count"], scores(0.86, best=0.9)).verdict == "pass"
    assert verdict_of(PROBES["count"], scores(0.86, best=1.0)).verdict == "fails"


def test_each_verdict_has_the_sentence_of_its_test() -> None:
    presence = PROBES["presence"]
    assert verdict_of(presence, scores(1.0)).sentence == presence.yes
    assert verdict_of(presence, scores(0.7)).sentence == presence.no
    assert verdict_of(presence, scores(0.1)).sentence == presence.cheats
    assert "1 of 2" in verdict_of(presence, scores(0.1, 1.0)).sentence


def test_a_training_that_failed_fails_the_test_with_its_reason() -> None:
    failed = Score(float("nan"), 1.0, float("nan"), 1.0, "RuntimeError: no")
    verdict = verdict_of(PROBES["presence"], [*scores(1.0), failed])
    assert verdict.verdict == "fails"
    assert "RuntimeError: no" in verdict.sentence
    assert math.isnan(verdict.auroc)
