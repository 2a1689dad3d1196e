"""Report: everything that `--evaluate` finds out about a cohort, as tables and figures in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from milbench.heatmap.evaluate import knows_truth, truth_scores, truth_table
from milbench.heatmap.experts import ExpertUsage, answer, expert_usage, overlap_table, usage_table
from milbench.heatmap.faithfulness import agreement_table, curve_points, curve_table
from milbench.heatmap.plots import curve_figure, usage_figure
from milbench.heatmap.render import save_panel
from milbench.heatmap.stored import RunCohort
from milbench.names import folder_name
from milbench.report.tables import markdown
from milbench.store.csv_files import spreadsheet_csv
from milbench.store.files import writing


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of a cohort's maps.

    Attributes
    ----------
    truth : table of `truth_table`, or None where no truth is known.
    curves, points : tables of `curve_table` and `curve_points`, made where no truth is known.
    agreement : table of `agreement_table`, or None for one fold.
    usages : of every mixture.
    bag : what a bag is, "slide" or "patient".
    """

    dataset: str
    truth: pd.DataFrame | None
    curves: pd.DataFrame | None
    points: pd.DataFrame | None
    agreement: pd.DataFrame | None
    usages: Sequence[ExpertUsage]
    bag: str

    @property
    def answers(self) -> list[str]:
        """One sentence per mixture."""
        return [answer(usage) for usage in self.usages]


def evaluate_cohort(cohort: RunCohort, names: Sequence[str], folds: Sequence[int]) -> Evaluation:
    """Maps against the truth or, where there is none, by deletion; agreement of folds; usage of experts.

    Curves and experts are of the first fold, whose models are as good as any.
    """
    known = knows_truth(cohort)
    points = None if known else curve_points(cohort, names, folds[0])
    return Evaluation(
        cohort.name,
        truth=_in_order(truth_table(truth_scores(cohort, names, folds)), cohort, names) if known else None,
        curves=None if points is None else _in_order(curve_table(points), cohort, names),
        points=points,
        agreement=_in_order(agreement_table(cohort, names, folds), cohort, names) if len(folds) > 1 else None,
        usages=expert_usage(cohort, names, folds[0]),
        bag=cohort.cohort.bag,
    )


def _in_order(table: pd.DataFrame, cohort: RunCohort, names: Sequence[str]) -> pd.DataFrame:
    """Rows by model and map, then by task, in the order of the run's tables."""
    places = {"model": list(names), "task": list(cohort.tasks)}
    return table.sort_values(
        [column for column in ("model", "map", "task") if column in table],
        key=lambda values: values.map(places[values.name].index) if values.name in places else values,
        ignore_index=True,
    )


def write_evaluation(found: Evaluation, out: Path) -> list[Path]:
    """Files written to `out`: a CSV per table, PNG and SVG per figure."""
    tables = {
        "truth": found.truth,
        "curves": found.curves,
        "curve_points": found.points,
        "agreement": found.agreement,
        "gates": usage_table(found.usages) if found.usages else None,
        "overlap": overlap_table(found.usages) if found.usages else None,
    }
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        paths = [
            _write(table, out / f"{name}_{found.dataset}.csv") for name, table in tables.items() if table is not None
        ]
        for usage in found.usages:
            paths += save_panel(usage_figure(usage), out / f"experts_{found.dataset}_{folder_name(usage.model)}")
        if found.points is not None and len(found.points):
            paths += save_panel(curve_figure(found.points, found.dataset, found.bag), out / f"curves_{found.dataset}")
        if found.answers:
            answers = out / f"experts_{found.dataset}.md"
            answers.write_text(
                "\n".join(f"- {markdown(sentence)}" for sentence in found.answers) + "\n", encoding="utf-8"
            )
            paths.append(answers)
    return paths


def _write(table: pd.DataFrame, path: Path) -> Path:
    path.write_text(spreadsheet_csv(table, "%.6g"), encoding="utf-8")
    return path
