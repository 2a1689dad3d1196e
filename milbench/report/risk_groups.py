"""Risk groups: test patients above and below the median risk of the training side, and when they had their events.

The cut is of each training's own training patients, so no test patient moves it. Trainings are pooled only if every
patient was tested once: a patient whom five folds test is not five patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.endpoints.endpoint import DAYS_OF_A_MONTH
from milbench.metrics import kaplan_meier, log_rank
from milbench.report.answered import Panel, answers_by_patient
from milbench.report.panel_grid import Room, panel_grid
from milbench.report.tables import Cell, Row, Table
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

LOW, HIGH = "low risk", "high risk"
LOOKS = {LOW: ("#0072B2", "-"), HIGH: ("#D55E00", "--")}
NOTE = (
    "Test patients by the median risk of the training's own training patients: low risk at or below it, high risk above. "
    "Ticks: censored patients. Below: patients at risk. The log-rank p describes the curves; it tests no model against another."
)


class Groups(NamedTuple):
    """Test patients of one training, or of several that tested every patient once.

    Attributes
    ----------
    fold, seed : of the training; None where several are pooled.
    patients : [n].
    time, event : [n] days, and 1 where the event was seen.
    is_high : [n] whether the risk is above the cut.
    """

    fold: int | None
    seed: int | None
    patients: NDArray[np.object_]
    time: Floats
    event: Floats
    is_high: NDArray[np.bool_]

    @property
    def p(self) -> float:
        """Log-rank p of high against low; NaN where a group is empty or nobody had an event."""
        return log_rank(self.time, self.event, self.is_high.astype(float)).p

    @property
    def said(self) -> str:
        """What was trained, the p, and patients and events of either group."""
        counts = [f"{name} {mine.sum()} ({int(self.event[mine].sum())} events)"
                  for name, mine in (("low", ~self.is_high), ("high", self.is_high))]  # fmt: skip
        return f"{self.name}; log-rank p {p_text(self.p)}\n{', '.join(counts)}"

    @property
    def name(self) -> str:
        """What was trained."""
        return "all folds" if self.fold is None else f"fold {self.fold}, seed {self.seed}"


def risk_groups(trials: Iterable[StoredTrial]) -> dict[Panel, list[Groups]]:
    """By (task, model) the groups of every training, in the order of folds and seeds."""
    found: dict[Panel, list[Groups]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.info["fold"], trial.info["seed"])):
        risks = trial.info.get("training_risk", {})
        for task, tested in answers_by_patient(trial, "survival").items():
            if task in risks:
                is_high = tested.answers[:, 0] > risks[task]["median"]
                groups = Groups(
                    trial.info["fold"], trial.info["seed"], tested.patients, tested.targets, tested.events, is_high
                )
                found.setdefault((task, str(trial.info["model"])), []).append(groups)
    return found


def pooled(groups: Sequence[Groups]) -> list[Groups]:
    """All trainings as one if each patient was tested once; else the trainings of the first seed."""
    patients = np.concatenate([one.patients for one in groups])
    if len(set(patients)) < len(patients):
        return [one for one in groups if one.seed == groups[0].seed]
    if len(groups) == 1:
        return list(groups)
    parts = (
        np.concatenate([getattr(one, name) for one in groups]) for name in ("patients", "time", "event", "is_high")
    )
    return [Groups(None, None, *parts)]


def ensemble_groups(trials: Iterable[StoredTrial]) -> dict[Panel, Groups]:
    """By (task, model) the groups by the mean risk of all trainings that tested a patient.

    Risks of trainings have no scale in common, so each counts in standard deviations of its own training risks from their
    median. The cut is where the mean of these is 0: of a patient whom one training tested, at that training's own cut.
    """
    parts: dict[Panel, list[pd.DataFrame]] = {}
    for trial in trials:
        risks = trial.info.get("training_risk", {})
        for task, tested in answers_by_patient(trial, "survival").items():
            if task in risks:
                above = (tested.answers[:, 0] - risks[task]["median"]) / (risks[task]["sd"] or 1.0)
                columns = {"time": tested.targets, "event": tested.events, "above": above}
                rows = pd.DataFrame({"patient": tested.patients, **columns})
                parts.setdefault((task, str(trial.info["model"])), []).append(rows)
    return {panel: _of_means(pd.concat(rows)) for panel, rows in parts.items()}


def _of_means(rows: pd.DataFrame) -> Groups:
    """One row per patient: the first time and event, and whether the mean is above the cut."""
    by_patient = rows.groupby("patient", sort=False)
    time, event = (by_patient[name].first().to_numpy(dtype=float) for name in ("time", "event"))
    above = by_patient["above"].mean()
    return Groups(None, None, above.index.to_numpy(dtype=object), time, event, above.to_numpy() > 0)


def group_frame(groups: Mapping[Panel, Sequence[Groups]]) -> pd.DataFrame:
    """One row per task, model, fold and seed: patients and events of either group, median days, log-rank chi-squared and p."""
    rows = []
    for (task, model), trainings in groups.items():
        for one in trainings:
            test = log_rank(one.time, one.event, one.is_high.astype(float))
            rows.append({"task": task, "model": model, "fold": one.fold, "seed": one.seed, **_counts(one, LOW),
                         **_counts(one, HIGH), "log_rank_chi2": test.chi2, "log_rank_p": test.p})  # fmt: skip
    return pd.DataFrame(rows)


def _counts(groups: Groups, name: str) -> dict[str, float]:
    mine = groups.is_high == (name == HIGH)
    median = kaplan_meier(groups.time[mine], groups.event[mine]).median()
    short = name.split()[0]
    return {
        f"n_{short}": int(mine.sum()),
        f"events_{short}": int(groups.event[mine].sum()),
        f"median_days_{short}": median,
    }


def group_table(name: str, groups: Mapping[Panel, Sequence[Groups]], titles: Mapping[str, str], title: str) -> Table:
    """Models × what the groups are, task by task: means over trainings, and the range of the log-rank p."""
    frame = group_frame(groups)
    rows, before = [], None
    for (task, model), mine in frame.groupby(["task", "model"], sort=False):
        counts = [Cell(f"{mine[column].mean():.1f}") for column in ("n_low", "events_low", "n_high", "events_high")]
        rows.append(
            Row(f"{task}, {titles[str(model)]}", (*counts, _range(mine["log_rank_p"])), rule=before not in (None, task))
        )
        before = task
    heads = ("low risk: patients", "low risk: events", "high risk: patients", "high risk: events", "log-rank p")
    caption = (
        f"Risk groups of the test patients of {title}: low at or below the median risk of the training's own training "
        "patients, high above. Means over folds and seeds; p: median, smallest and largest. The p describes the two "
        "curves; it tests no model against another. The CSV holds every training."
    )
    return Table(name, caption, "Task, method", heads, tuple(rows), frame)


def _range(values: pd.Series) -> Cell:
    known = values.dropna()
    if known.empty:
        return Cell()
    some = f", {len(known)} of {len(values)}" if len(known) < len(values) else ""
    return Cell(p_text(known.median()), f"{p_text(known.min())} to {p_text(known.max())}{some}")


def p_text(p: float) -> str:
    """A p as printed; a dash where there is none."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def survival_figure(
    panels: Sequence[tuple[str, str, Groups]], title: str, most_columns: int = 3, *, same_months: bool = False
) -> Figure:
    """Kaplan-Meier curves of both groups, one panel per training, with the patients at risk below.

    Parameters
    ----------
    panels : task, title of the panel, groups; not empty.
    same_months : whether all panels of a task have the same axis of months.
    """
    room = Room(width=2.4, height=1.7, left=0.85, bottom=0.95, top=0.62, right=0.25)
    figure, every = panel_grid([task for task, *_ in panels], title, room, most_columns)
    for axes, (task, head, groups) in zip(every, panels, strict=True):
        shown = [one for other, _, one in panels if other == task] if same_months else [groups]
        longest = max(float(one.time.max(initial=1.0)) for one in shown) / DAYS_OF_A_MONTH
        _survival(axes, groups, month_ticks(longest), longest)
        axes.set_title(f"{head}\n{groups.said}", fontsize=7.5, pad=4, y=1.0)
    return figure


def month_ticks(longest: float) -> list[float]:
    """Months along the axis, from 0: at most six."""
    decades = (120.0 * 10**power * factor for power in count() for factor in (1, 2, 5))
    step = next(step for step in chain((1, 3, 6, 12, 24, 36, 60), decades) if longest / step < 6)
    return [float(at) for at in np.arange(0, longest + 1e-9, step)]


def _survival(axes: Any, groups: Groups, ticks: Sequence[float], longest: float) -> None:
    months = groups.time / DAYS_OF_A_MONTH
    for place, (name, (color, dash)) in enumerate(LOOKS.items()):
        mine = groups.is_high == (name == HIGH)
        curve = kaplan_meier(months[mine], groups.event[mine])
        x, y = np.append(0.0, curve.times), np.append(1.0, curve.values)
        axes.step(x, y, where="post", color=color, linestyle=dash, linewidth=1.5)
        gone = months[mine & (groups.event == 0)]
        axes.plot(gone, curve.at(gone), linestyle="", marker="|", markersize=4, color=color)
        for tick in ticks:
            axes.annotate(f"{int((months[mine] >= tick).sum())}", (tick, 0), xycoords=("data", "axes fraction"),
                          xytext=(0, -33 - 9 * place), textcoords="offset points", ha="center", va="top", fontsize=6.5,
                          color=color)  # fmt: skip
        axes.annotate(name, (0, 0), xycoords="axes fraction", xytext=(-12, -33 - 9 * place), textcoords="offset points",
                      ha="right", va="top", fontsize=6.5, color=color)  # fmt: skip
    axes.set(
        ylim=(0, 1.04),
        xlim=(0, max(longest, 1.0, ticks[-1]) * 1.03),
        xticks=ticks,
        yticks=[0, 0.5, 1],
    )
    axes.set_xlabel("months", fontsize=8, labelpad=1)
    axes.set_ylabel("without event", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
