"""Verdict: what the scores of a test say of a model.

A score is placed between guessing (0) and the best possible reader of the same bags (1). The interval of a test is the
lowest and the highest of its seeds, and the verdict holds for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from milbench.probes.probe import Probe

BAR = 0.8
"""A model passes above this share of the way from guessing to the best possible score."""

GUESSING = 0.5

TRAPPED = 0.4
"""Score below which a model fell for the trap: guessing on 100 + 100 bags gives 0.42 or more in 97 of 100 cases."""

PASS, FAILS, CHEATS, UNSURE = "pass", "fails", "cheats", "unsure"


class Score(NamedTuple):
    """How one training of a test went.

    Attributes
    ----------
    auroc : of the test's bags, the worse task's; NaN if there is none.
    best : AUROC of the best possible reader of the same bags.
    rate : the learning rate that validation chose.
    seconds : of all trainings and predictions.
    reason : why there is no score; empty if there is one.
    """

    auroc: float
    best: float
    rate: float
    seconds: float
    reason: str = ""

    @property
    def way(self) -> float:
        """Share of the way from guessing to the best possible score."""
        return (self.auroc - GUESSING) / (self.best - GUESSING)


class Verdict(NamedTuple):
    """What a test says of a model.

    Attributes
    ----------
    test, title : of the test.
    verdict : "pass", "fails", "cheats" or "unsure".
    auroc, low, high : mean, lowest and highest over the seeds; NaN if a training failed.
    best : mean score of the best possible reader.
    seeds : number of seeds.
    seconds : of all seeds.
    sentence : what the verdict means for a user.
    """

    test: str
    title: str
    verdict: str
    auroc: float
    low: float
    high: float
    best: float
    seeds: int
    seconds: float
    sentence: str


def verdict_of(probe: Probe, scores: Sequence[Score]) -> Verdict:
    """Verdict of the seeds' scores."""
    word, sentence = _said(probe, scores)
    aurocs = [score.auroc for score in scores]
    is_whole = not any(score.reason for score in scores)
    mean, low, high = (sum(aurocs) / len(aurocs), min(aurocs), max(aurocs)) if is_whole else (float("nan"),) * 3
    best = sum(score.best for score in scores) / len(scores)
    seconds = sum(score.seconds for score in scores)
    return Verdict(probe.name, probe.title, word, mean, low, high, best, len(scores), seconds, sentence)


def _said(probe: Probe, scores: Sequence[Score]) -> tuple[str, str]:
    if failed := [score.reason for score in scores if score.reason]:
        return FAILS, f"It could not be trained: {failed[0]}"
    passed = [score.way > BAR for score in scores]
    if all(passed):
        return PASS, probe.yes
    if probe.cheats and all(score.auroc < TRAPPED for score in scores):
        return CHEATS, probe.cheats
    if not any(passed):
        return FAILS, probe.no
    return UNSURE, f"It depends on the seed: {sum(passed)} of {len(passed)} trainings pass."
