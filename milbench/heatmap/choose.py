"""Choose: the slides to draw, named by id or by how a model answered them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from milbench.errors import UsageError, unknown_name
from milbench.heatmap.stored import RunCohort

OUTCOMES = {
    "top-tp": ("the positive test slide that {} is surest of", 1, False),
    "top-fp": ("the negative test slide that {} takes most for a positive", 0, False),
    "top-fn": ("the positive test slide that {} takes most for a negative", 1, True),
    "top-tn": ("the negative test slide that {} is surest of", 0, True),
}
"""Word -> meaning, label, and whether the lowest probability wins."""


class Chosen(NamedTuple):
    """A slide and why it is shown; `caption` is empty for a slide that was named."""

    slide_id: str
    caption: str = ""


def chosen_slides(cohort: RunCohort, words: Sequence[str], model: str, task: str, fold: int) -> list[Chosen]:
    """The slides that `words` ask for: ids, or `top-tp`, `top-fp`, `top-fn`, `top-tn` by the answers of `model`.

    Raises
    ------
    UsageError : neither an id of the cohort nor a known word, or no slide of that kind was tested.
    """
    ids = set(cohort.cohort.slides["slide_id"])
    return [Chosen(word) if word in ids else _by_outcome(cohort, word, model, task, fold) for word in words]


def _by_outcome(cohort: RunCohort, word: str, model: str, task: str, fold: int) -> Chosen:
    if word not in OUTCOMES:
        raise unknown_name("slide or choice of slides", word, OUTCOMES)
    meaning, label, lowest = OUTCOMES[word]
    trial = cohort.trial(model, task, fold)
    table: pd.DataFrame = trial.predictions()
    rows = table[(table["role"] == "test") & (table["task"] == task) & (table["target"] == label)]
    if rows.empty:
        raise UsageError(f"--slides {word}: no test slide of {task} has label {label} in fold {fold} of {cohort.name}.")
    ordered = rows.sort_values(["probability", "slide_id"], ascending=lowest)
    title = trial.info["model_title"]
    return Chosen(str(ordered["slide_id"].iloc[0]), f"{word}: {meaning.format(title)}")
