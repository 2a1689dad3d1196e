"""What the models look at, as numbers by slide: the evidence for the claim on attention. No model is asked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.errors import StoreError
from milbench.metrics.weights import ratio
from milbench.report.verdicts import Contrast, Draft, above, below, contrast
from milbench.stats.arms import Estimate
from milbench.stats.crossed import draw_counts, generator

Floats = NDArray[np.float64]

UNSEEN = "nobody looked at the attention; 'milbench reproduce fig5' does"
TRUTH = ("dataset", "model", "task", "fold", "patient_id", "slide_id", "auroc")
EXPERTS = ("dataset", "model", "fold", "patient_id", "slide_id", "overlap", "chance")


def _empty(columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({column: pd.Series(dtype=object) for column in columns})


@dataclass(frozen=True, eq=False)
class Attention:
    """What was seen on test slides.

    Attributes
    ----------
    truth : `TRUTH`: how well a model's map finds the patches that carry a task's evidence in a positive slide.
    experts : `EXPERTS`: attention that two experts share, 1 = the same map, and what they would share by chance.
    alike : share of what chance leaves from which on two experts look at much the same.
    why : why there is nothing.
    """

    truth: pd.DataFrame = field(default_factory=lambda: _empty(TRUTH))
    experts: pd.DataFrame = field(default_factory=lambda: _empty(EXPERTS))
    alike: float = 0.75
    why: str = UNSEEN


def covers_more(seen: Attention, model: str, reference: str, draws: int) -> Draft:
    """The maps of `model` find the evidence better than those of `reference`, slide by slide."""
    label = "M4 − AMIL, map against the truth"
    return Draft("attention finds the evidence better than AMIL's", [
        contrast(label, lambda: _mean(_paired(seen, model, reference), "difference", draws))
    ], above())  # fmt: skip


def experts_differ(seen: Attention, model: str, draws: int) -> Draft:
    """Two experts of `model` share less attention than maps that are much the same."""

    def shared() -> Estimate:
        rows = seen.experts[seen.experts["model"] == model]
        if rows.empty:
            raise StoreError(seen.why)
        overlap, chance = (_mean(rows, column, draws) for column in ("overlap", "chance"))
        return Estimate(_beyond(overlap.value, chance.value), _beyond(overlap.draws, chance.draws))

    def largest(one: Contrast) -> float:
        return -one.value

    found = [contrast("shared by two experts beyond chance", shared)]
    return Draft(
        f"two experts share less than {seen.alike:g} of their attention", found, below(seen.alike), shown=largest
    )


def _beyond(overlap: Any, chance: Any) -> Any:
    """Overlap beyond chance, as a share of what chance leaves."""
    return (overlap - chance) / np.maximum(1 - chance, 1e-9)


def _paired(seen: Attention, model: str, reference: str) -> pd.DataFrame:
    """Rows of `TRUTH` with the difference of the two models on the same slide, task and fold."""
    keys = [column for column in TRUTH if column not in ("model", "auroc")]
    sides = [seen.truth.loc[seen.truth["model"] == name, [*keys, "auroc"]] for name in (model, reference)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("", "_reference"))
    if both.empty:
        raise StoreError(seen.why)
    return both.assign(difference=both["auroc"].astype(float) - both["auroc_reference"].astype(float))


def _mean(rows: pd.DataFrame, column: str, draws: int) -> Estimate:
    """Mean over slides of a cohort, then over cohorts, with patients and folds drawn together inside each."""
    parts = [_mean_of_cohort(part, str(name), column, draws) for name, part in rows.groupby("dataset", sort=True)]
    return Estimate(float(np.mean([part.value for part in parts])), np.mean([part.draws for part in parts], axis=0))


def _mean_of_cohort(rows: pd.DataFrame, dataset: str, column: str, draws: int) -> Estimate:
    patients, folds = rows["patient_id"].astype(str), rows["fold"].astype(int)
    values = rows[column].astype(float)
    total = values.groupby([patients, folds]).sum().unstack(fill_value=0.0).to_numpy(dtype=float)  # [P, F]
    count = values.groupby([patients, folds]).size().unstack(fill_value=0).to_numpy(dtype=float)
    rng = generator(0, dataset, "attention")  # the same draws for every column
    by_patient, by_fold = (draw_counts(rng, size, draws).astype(float) for size in total.shape)

    def summed(cells: Floats) -> Floats:
        return np.asarray(((by_patient @ cells) * by_fold).sum(axis=1))

    return Estimate(float(values.mean()), ratio(summed(total), summed(count)))
