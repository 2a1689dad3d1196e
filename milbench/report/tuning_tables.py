"""Tables of tuning: what each search chose and what it cost, and a table of default settings beside that of tuned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from milbench.report.contents import Contents
from milbench.report.curves import SCORE_IS
from milbench.report.published import PAPER
from milbench.report.score_tables import number
from milbench.report.searches import DEFAULT, Place, SearchOfCohort
from milbench.report.tables import Cell, Row, Table
from milbench.report.units import COUNT, SECONDS, digits, shared_step

SCORES = ("validation, default", "validation, tuned", "test, default", "test, tuned")


def tuning_table(contents: Contents, name: str) -> Table:
    """Models, or models and tasks, of one cohort: chosen configuration, scores before and after, and cost of the search."""
    search, title = contents.searches[name], contents.dataset_titles[name]
    tasks = [*contents.analysis.tasks.loc[contents.analysis.tasks["dataset"] == name, "task"]]
    rows = [_facts(contents, name, place) for place in _in_order(search, [*contents.model_titles], ["", *tasks])]
    steps = {
        "seconds": shared_step((row["seconds"] for row in rows), SECONDS),
        "bag_steps": shared_step((row["bag_steps"] for row in rows), COUNT),
    }
    columns = (
        "configuration", *SCORES, "configurations failed",
        *(f"{text} ({steps[key][1]})" if steps[key][1] else text for key, text in COSTS.items()),
    )  # fmt: skip
    caption = tuning_caption(contents, name, title)
    printed = tuple(Row(_title(row), _cells(row, steps)) for row in rows)
    data = contents.metric.as_written(pd.DataFrame(rows).drop(columns="title"))
    return Table(contents.name_of("tuning", name), caption, "Method", columns, printed, data)


COSTS = {"seconds": "training time of the search", "bag_steps": "bag-steps of the search"}


def _in_order(search: SearchOfCohort, models: Sequence[str], tasks: Sequence[str]) -> list[Place]:
    """Places of the tasks, in the order of all tables; a model without a result of its own comes last."""
    mine = [place for place in search.chosen if place[1] in tasks]
    rank = {model: number for number, model in enumerate(models)}
    return sorted(mine, key=lambda place: (rank.get(place[0], len(models)), place[0], tasks.index(place[1])))


def _facts(contents: Contents, name: str, place: Place) -> dict[str, Any]:
    """One row of the table's data."""
    search, (model, task) = contents.searches[name], place
    configuration = search.chosen[place]
    costs = search.costs.get(place, {})
    default = float("nan") if contents.untuned is None else _test(contents.untuned, name, place)
    return {
        "dataset": name, "model": model, "title": contents.model_titles.get(model, model), "task": task,
        "n_configurations": search.configurations, "configuration": configuration.number, "settings": str(configuration),
        "validation_default": search.score(place, DEFAULT),
        "validation_tuned": search.score(place, configuration.number),
        "test_default": default, "test_tuned": _test(contents, name, place),
        **{key: costs.get(key, 0) for key in ("n_failed", "n_trainings", "n_stopped", "seconds", "bag_steps")},
    }  # fmt: skip


def _test(contents: Contents, name: str, place: Place) -> float:
    """Mean test score of a model over signal tasks as Table 2 has it, or that of its task."""
    model, task = place
    frame = contents.analysis.cells if task else contents.analysis.cohorts
    mine = frame[(frame["dataset"] == name) & (frame["model"] == model)]
    mine = mine[mine["task"] == task] if task else mine
    whole = mine[mine["n_missing"] == 0]
    return float(whole["score"].iloc[0]) if len(whole) else float("nan")


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['title']}, {row['task']}" if row["task"] else str(row["title"])


def _cells(row: Mapping[str, Any], steps: Mapping[str, tuple[float, str]]) -> tuple[Cell, ...]:
    scores = (Cell(number(row[key.replace(", ", "_")])) for key in SCORES)
    costs = (Cell(digits(row[key] / steps[key][0])) for key in COSTS)
    return (Cell(str(row["configuration"]), _in_lines(row["settings"])), *scores, Cell(str(row["n_failed"])), *costs)


LONGEST_LINE = 44
"""Letters of a line of settings, so that the table fits a landscape page."""


def _in_lines(settings: str) -> str:
    """ "lr 0.01, hidden 32, ..." in lines that end between two settings."""
    lines = [""]
    for one in settings.split(", "):
        joined = f"{lines[-1]}, {one}" if lines[-1] else one
        if len(joined) <= LONGEST_LINE or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(one)
    return ",\n".join(lines)


def tuning_caption(contents: Contents, name: str, title: str) -> str:
    """What was compared, and what may be."""
    search, metric = contents.searches[name], contents.metric.title
    others = "" if contents.untuned else " There are no trainings with default settings to compare."
    return (
        f"Tuning on {title}: every model{' and task' if search.per_task else ''} had {search.configurations} configurations "
        "to choose from, the default settings (number 0) among them, and took the one with the best validation score. No test "
        "side reached a choice. Compare test scores: the validation score of what was chosen is optimistic, because it is the "
        f"best of {search.configurations}. Validation score: {validation_is(contents, name)}. Test score: mean {metric} "
        f"over signal tasks{_of_kind(contents)}, from trainings after the search.{others}{_halving(search)} A failed configuration is "
        f"spent and never chosen. {_steps(search)}"
    )


def validation_is(contents: Contents, name: str) -> str:
    """What the search maximised on a cohort, without a full stop."""
    mixed = f"the score that epochs are chosen by ({SCORE_IS}), over tasks of all kinds"
    what = "AUROC" if validates_by_auroc(contents, name) else mixed
    controls = contents.datasets[name].get("control_tasks")
    without = " without those of control tasks (a multi-task model's score holds its control tasks)" if controls else ""
    return f"{what}, as a mean over all trainings{without}"


def validates_by_auroc(contents: Contents, name: str) -> bool:
    """Whether the validation scores of a cohort are AUROCs, as where all tasks are binary."""
    return not any(trial.endpoints for trial in contents.trials_of(name))


def _of_kind(contents: Contents) -> str:
    return "" if contents.kind == "binary" else f" of kind {contents.kind}"


def _halving(search: SearchOfCohort) -> str:
    if not search.halving:
        return ""
    return (
        " Successive halving: most configurations were trained for fewer epochs, so only those of the last rung have a full "
        "score, and there is no budget curve."
    )


def _steps(search: SearchOfCohort) -> str:
    """Whether all places had as many bag-steps, and if not, why."""
    if search.n_missing:
        return (
            f"{search.n_missing} trainings of the search are not in {search.run.path}, so its scores and costs are not whole. "
            "The command of the run computes them again."
        )
    if len({row["bag_steps"] for row in search.costs.values()}) <= 1:
        return "Bag-steps (one bag in one epoch) are the same for all."
    n_stopped, n_failed = (sum(row[key] for row in search.costs.values()) for key in ("n_stopped", "n_failed"))
    n_planned = {row["n_planned"] for row in search.costs.values()}
    reasons = [
        *([f"{n_stopped} trainings stopped early"] if n_stopped else []),
        *(["failed trainings count 0"] if n_failed else []),
        *(["a model of one task is trained once per task"] if len(n_planned) > 1 else []),
    ]
    why = "; ".join(reasons) or "each task is trained on the slides that have a label"
    return f"Bag-steps (one bag in one epoch) differ: {why}."


def default_and_tuned(default: Table, tuned: Table, columns: Sequence[str], tuned_columns: Sequence[str]) -> Table:
    """One table of two of the same form: of each tuned cohort a column with default settings and one with tuned ones.

    Parameters
    ----------
    columns : the cohort, or "all", of every column of both.
    tuned_columns : those of which the two tables differ.
    """
    theirs, mine = _by_key(default.rows), _by_key(tuned.rows)
    has_two = [column in tuned_columns for column in columns]
    heads: list[str] = []
    for title, two in zip(tuned.columns, has_two, strict=True):
        heads += [f"{title}, default", f"{title}, tuned"] if two else [title]
    either = {**theirs, **mine}
    keys = dict.fromkeys([*mine, *theirs])
    rows = [
        _side_by_side(theirs.get(key, _no_numbers(either[key])), mine.get(key, _no_numbers(either[key])), has_two)
        for key in keys
    ]
    is_tuned = tuned.data["dataset"].isin(tuned_columns)
    data = [
        default.data[default.data["dataset"].isin(tuned_columns)].assign(settings="default"),
        tuned.data.assign(settings=is_tuned.map({True: "tuned", False: ""})),
    ]
    return replace(tuned, columns=tuple(heads), rows=tuple(rows), data=pd.concat(data, ignore_index=True))


def _side_by_side(default: Row, tuned: Row, has_two: Sequence[bool]) -> Row:
    """One row of two."""
    cells: list[Cell] = []
    for before, after, two in zip(default.cells, tuned.cells, has_two, strict=True):
        cells += [before, after] if two else [after]
    return replace(tuned, cells=tuple(cells))


def _no_numbers(row: Row) -> Row:
    return replace(row, cells=(Cell(),) * len(row.cells))


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Rows by method and title: the paper's number has a row under each method."""
    found, method = {}, ""
    for row in rows:
        method = method if row.title == PAPER else row.title
        found[method, row.title] = row
    return found


def tuned_sentence(contents: Contents) -> str:
    """What "default" and "tuned" are in a table of means, beginning with a blank; "" of a run that is not tuned."""
    if not contents.searches:
        return ""
    numbers = sorted({search.configurations for search in contents.searches.values()})
    n = " or ".join(map(str, numbers))
    tuned = f"the best of {n} configurations per model on the validation side, the default settings among them."
    if contents.untuned is None:
        return f" Tuned: {tuned} There are no trainings with default settings to compare."
    return f" Default: the settings of recipe and cohort. Tuned: {tuned}{_other_cells(contents, contents.untuned)}"


def _other_cells(contents: Contents, untuned: Contents) -> str:
    """A warning if the two were not trained on the same tasks, folds and seeds."""
    cell = ["dataset", "model", "task", "fold", "seed"]
    names = list(contents.searches)
    one, other = (
        set(frame.loc[frame["dataset"].isin(names), cell].itertuples(index=False, name=None))
        for frame in (contents.scores, untuned.scores)
    )
    left_out = set(contents.analysis.left_out) ^ set(untuned.analysis.left_out)
    if one == other and not left_out:
        return ""
    return " The two are not of the same tasks, folds and seeds: run the same command again before you compare them."
