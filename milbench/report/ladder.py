"""Ladder: the report's Table 3, models in the order of what their tasks share, each with what the sharing gains.

Models declare their place when they register (`milbench.models.Sharing`), and a run's header keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from milbench.report.score_tables import ABLATION, ALPHA, interval, signed
from milbench.report.tables import DAGGER, Cell, Table

WORDS_OF_THE_STUDY = (
    "nothing",
    "experts, one gate per task",
    "MP-AMIL experts, one gate per task",
    "MP-AMIL experts, four gates per task",
)
"""What the rows of the study's Table 3 share, for runs whose header says nothing: an older version wrote it."""


@dataclass(frozen=True)
class Rung:
    """A model's place.

    Attributes
    ----------
    model : registry name.
    what : what its tasks share.
    step : its place in the order.
    base : the model that it is compared with: the nearest before it that ran; "" = none.
    """

    model: str
    what: str
    step: float
    base: str


def rungs_of(datasets: Mapping[str, Any], models: Collection[str]) -> list[Rung]:
    """The places of those `models` that have one, in order; `datasets` are the facts of a run's header, by name."""
    places: dict[str, Any] = {}
    for facts in datasets.values():
        places = {**facts.get("sharing", _of_the_study()), **places}
    here = {name: place for name, place in places.items() if name in models}
    return sorted(
        (
            Rung(name, str(place["what"]), float(place["step"]), next((n for n in place["after"] if n in here), ""))
            for name, place in here.items()
        ),
        key=lambda rung: (rung.step, rung.model),
    )


def _of_the_study() -> dict[str, Any]:
    """The study's Table 3, as a header that keeps declarations holds it."""
    return {
        name: {"what": what, "step": step, "after": list(reversed(ABLATION[:step]))}
        for step, (name, what) in enumerate(zip(ABLATION, WORDS_OF_THE_STUDY, strict=True))
    }


def with_ladder(table: Table, rungs: Sequence[Rung], pairs: pd.DataFrame, titles: Mapping[str, str]) -> Table:
    """The table of the rungs' means with what each shares below its title, and two columns of gains.

    Parameters
    ----------
    table : of `milbench.report.score_tables.model_table`; rows that are no rung's get empty cells.
    rungs : at least one, in order.
    pairs : of `milbench.stats.Analysis`; of several cohorts the gains in their average are printed, all stand in the CSV.
    titles : of the models.
    """
    names = list(pairs["dataset"].unique())
    gains = pd.DataFrame([_numbers(rung, rungs[0].model, pairs, name) for name in names for rung in rungs])
    shown = "all" if "all" in names else names[0]
    printed = {row.model: row for row in gains[gains["dataset"] == shown].itertuples()}
    by_title = {titles[rung.model]: rung for rung in rungs}
    aside = next((rung.model for rung in rungs[1:] if not rung.base), "")
    rows = []
    for row in table.rows:
        rung = by_title.get(row.title)
        if rung is None:
            stacked = tuple(replace(cell, below=cell.below.replace(" (", "\n(")) for cell in row.cells)
            rows.append(replace(row, cells=(*stacked, Cell(""), Cell(""))))
        else:
            cells = (*row.cells, *_gains(rung, printed[rung.model], titles))
            rows.append(replace(row, cells=cells, below=rung.what, rule=row.rule or rung.model == aside))
    columns = (*table.columns, f"Gain over {titles[rungs[0].model]}", "Gain of the step")
    data = table.data.merge(gains, on=["dataset", "model"], how="left")
    return replace(table, columns=columns, rows=tuple(rows), data=data)


def _gains(rung: Rung, row: Any, titles: Mapping[str, str]) -> tuple[Cell, Cell]:
    """Gain of one rung over the first, and over the one that it is compared with."""
    gain = _gain(row.gain, row.gain_low, row.gain_high, row.gain_p_holm)
    step = _gain(row.step_gain, row.step_low, row.step_high, row.step_p_holm)
    if rung.base:
        step = replace(step, below="\n".join(filter(None, (step.below, f"over {titles[rung.base]}"))))
    return gain, step


def _gain(delta: float, low: float, high: float, p_holm: float) -> Cell:
    """A difference with its interval; a dagger where it survives Holm."""
    if math.isnan(delta):
        return Cell()
    return Cell(signed(delta) + (DAGGER if p_holm < ALPHA else ""), interval(low, high, with_sign=True))


def _numbers(rung: Rung, first: str, pairs: pd.DataFrame, dataset: str) -> dict[str, Any]:
    """Gains of one rung in one dataset: over the first rung, and over its base."""
    gain, step = (_difference(pairs, dataset, rung.model, other) for other in (first, rung.base))
    return {
        "dataset": dataset, "model": rung.model, "shared": rung.what,
        **dict(zip(("gain", "gain_low", "gain_high", "gain_p_holm"), gain, strict=True)), "step_over": rung.base,
        **dict(zip(("step_gain", "step_low", "step_high", "step_p_holm"), step, strict=True)),
    }  # fmt: skip


def _difference(pairs: pd.DataFrame, dataset: str, model: str, other: str) -> tuple[float, float, float, float]:
    """Score of `model` less that of `other`, low, high and p after Holm; NaN where the pair was not compared."""
    for row in pairs[pairs["dataset"] == dataset].itertuples():
        if (row.model_a, row.model_b) == (model, other):
            return float(row.delta), float(row.low), float(row.high), float(row.p_holm)
        if (row.model_a, row.model_b) == (other, model):
            return -float(row.delta), -float(row.high), -float(row.low), float(row.p_holm)
    return (math.nan,) * 4
