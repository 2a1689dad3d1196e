"""Sheets: the tables of a report, each with the caption that says how its numbers came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from milbench.report.captions import spread_means, tuned_before, undefined
from milbench.report.contents import Contents, all_datasets
from milbench.report.costs import cost_table
from milbench.report.kind_tables import label_table, metrics_table
from milbench.report.kinds import TOO_SMALL_NOTES, metric_note
from milbench.report.ladder import Rung, rungs_of, with_ladder
from milbench.report.operating import operating_table
from milbench.report.published import NOT_LIKE_FOR_LIKE, with_paper
from milbench.report.risk_groups import group_table, risk_groups
from milbench.report.score_tables import against_table, leads, model_table, spread_table, task_table
from milbench.report.settings import settings_table
from milbench.report.table1 import table1
from milbench.report.tables import Table
from milbench.report.tuning_tables import default_and_tuned, tuned_sentence, tuning_table

INTERVAL = "Below each number: 95 % interval of a bootstrap over test patients and folds together."
LEAD = "† = the best model's lead over the runner-up survives Holm's correction over all pairs (5 %)."
GAINS = (
    "Gain of the step: over the model that the row changes in one part, or the nearest before it that ran. Intervals of gains: "
    "patients × folds, the same draws for all models; † = the difference survives the same correction."
)


def make_tables(contents: Sequence[Contents]) -> list[Table]:
    """Every table, in the order of the index: kind by kind, costs beside the first tables of a cohort, settings last.

    Parameters
    ----------
    contents : one per kind of tasks, of `milbench.report.contents.gather`.
    """
    tables: list[Table] = []
    costed: set[str] = set()
    for one in contents:
        labels = table1(one.runs) if one.kind == "binary" else label_table(one)
        tables += [replace(labels, kind=one.kind)] if labels else []
        tables += _of_kind_alone(one, [_table2(one), *_table3(one), _spread(one)])
        for name in one.datasets:
            tables += _of_kind_alone(one, _of_dataset(one, name))
            tables += [] if name in costed else [replace(_costs(one, name), settings=True)]
        costed |= set(one.datasets)
    datasets = all_datasets(contents)
    titles = {name: str(facts["title"]) for name, facts in datasets.items()}
    return [*tables, settings_table(contents[0].runs, datasets, titles)]


def _of_kind_alone(contents: Contents, tables: Sequence[Table]) -> list[Table]:
    return [replace(table, settings=True, kind=contents.kind) for table in tables]


def _of_dataset(contents: Contents, name: str) -> list[Table]:
    tuning = [tuning_table(contents, name)] if name in contents.searches else []
    metrics = _operating if contents.kind == "binary" else _metrics
    groups = _risk_groups(contents, name) if contents.kind == "survival" else []
    return [*tuning, _tasks(contents, name), *_against(contents, name), metrics(contents, name), *groups]


def _table2(contents: Contents) -> Table:
    table = _means(contents)
    if contents.untuned is None or not contents.searches:
        return table
    columns = _columns(contents)
    tuned = [name for name in columns if name in contents.searches or name == "all"]
    return default_and_tuned(_means(contents.untuned), table, columns, tuned)


def _means(contents: Contents) -> Table:
    analysis = contents.analysis
    caption = (
        f"Mean test {contents.metric.title} over tasks{_of_kind(contents)}. {_metric(contents)}{INTERVAL} {LEAD}"
        f"{tuned_sentence(contents)}{tuned_before(contents.datasets, contents.model_titles)}"
        f"{_five_cohorts(contents)}{_gaps(contents)}{_luad(contents)}"
    )
    table = model_table(
        contents.name_of("table2"), caption, analysis.cohorts, analysis.overall, contents.dataset_titles,
        leads(analysis.cohorts, analysis.overall, analysis.pairs), contents.signal_baselines, contents.metric,
    )  # fmt: skip
    return _with_paper(contents, table, 2)


def _columns(contents: Contents) -> list[str]:
    """The cohort of every column of a table of means, and "all" for the average."""
    return [*contents.datasets, *(["all"] if len(contents.datasets) > 1 else [])]


def _table3(contents: Contents) -> list[Table]:
    analysis = contents.analysis
    rungs = rungs_of(contents.datasets, set(analysis.cohorts["model"]))
    if contents.kind != "binary" or len(rungs) < 2:
        return []
    order = [rung.model for rung in rungs]
    cohorts, overall = (_in_order(frame, order) for frame in (analysis.cohorts, analysis.overall))
    caption = (
        f"Ladder of sharing: below each model what its tasks share; mean test {contents.metric.title} over tasks. {INTERVAL} "
        f"{LEAD} {GAINS}{_other_networks(rungs)}{_of_which_mean(contents)}{_gaps(contents)}{_luad(contents)}"
    )
    table = model_table(
        "table3", caption, cohorts, overall, contents.dataset_titles, leads(cohorts, overall, analysis.pairs),
        contents.signal_baselines, contents.metric,
    )  # fmt: skip
    return [with_ladder(_with_paper(contents, table, 3), rungs, analysis.pairs, contents.model_titles)]


def _in_order(frame: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Rows of the models, in their order and, of one model, in the frame's."""
    place = frame["model"].map({model: number for number, model in enumerate(models)})
    return frame.assign(place=place).dropna(subset="place").sort_values("place", kind="stable").drop(columns="place")


def _other_networks(rungs: Sequence[Rung]) -> str:
    return (
        " Last rows: models on other networks, which are no step of the ladder."
        if any(not rung.base for rung in rungs[1:])
        else ""
    )


def _of_which_mean(contents: Contents) -> str:
    return " Gains are those of the average; their intervals also draw cohorts." if len(contents.datasets) > 1 else ""


def _with_paper(contents: Contents, table: Table, number: int) -> Table:
    """The table with the paper's numbers under ours; a cohort of which some tasks ran is not what the paper printed."""
    return with_paper(table, number, contents.beside_paper, _columns(contents)) if contents.whole else table


def _spread(contents: Contents) -> Table:
    caption = (
        f"Training variability: mean test {contents.metric.title} over tasks{_of_kind(contents)}. {spread_means(contents.datasets)}"
        f"{_gaps(contents)}"
    )
    name = contents.name_of("spread")
    return spread_table(name, caption, contents.analysis.cohorts, contents.dataset_titles, contents.metric)


def _tasks(contents: Contents, name: str) -> Table:
    analysis = contents.analysis
    title = contents.dataset_titles[name]
    caption = (
        f"Test {contents.metric.title} by task on {title}. {_metric(contents, name)}{INTERVAL}{_gaps(contents, name)}"
    )
    return task_table(
        contents.name_of("tasks", name), caption, analysis.cells[analysis.cells["dataset"] == name],
        analysis.tasks[analysis.tasks["dataset"] == name], contents.baselines[contents.baselines["dataset"] == name],
        contents.metric, contents.kind,
    )  # fmt: skip


def _against(contents: Contents, name: str) -> list[Table]:
    rows = contents.analysis.against[contents.analysis.against["dataset"] == name]
    if contents.analysis.reference is None or rows.empty:
        return []
    reference = contents.model_titles[str(contents.analysis.reference)]
    caption = (
        f"Difference of test {contents.metric.title} from {reference} by task on {contents.dataset_titles[name]}, with its 95 % interval "
        f"(patients × folds, the same draws for all models). † = p < 0.05 after Holm's correction over the models of a "
        f"task; over tasks see the column q_bh of the CSV (Benjamini-Hochberg).{_too_small(contents)}{_gaps(contents, name)}"
    )
    return [against_table(contents.name_of("against", name), caption, rows, contents.model_titles, contents.metric)]


def _operating(contents: Contents, name: str) -> Table:
    scores = contents.analysis.scores[contents.analysis.scores["dataset"] == name]
    return operating_table(f"operating_{name}", scores, contents.dataset_titles[name], contents.bag_of(name))


def _metrics(contents: Contents, name: str) -> Table:
    scores = contents.analysis.scores[contents.analysis.scores["dataset"] == name]
    gaps = _gaps(contents, name)
    return metrics_table(
        contents.name_of("metrics", name),
        scores,
        contents.dataset_titles[name],
        contents.kind,
        gaps,
        contents.bag_of(name),
    )


def _risk_groups(contents: Contents, name: str) -> list[Table]:
    groups = risk_groups(contents.trials_of(name))
    if not groups:
        return []
    stem = contents.name_of("risk_groups", name)
    return [group_table(stem, groups, contents.model_titles, contents.dataset_titles[name])]


def _costs(contents: Contents, name: str) -> Table:
    costs = contents.costs[contents.costs["dataset"] == name]
    patches = costs["at_patches"].dropna().unique()
    bag = f" Multiply-adds of one model for a bag of {patches[0]:,.0f} patches." if len(patches) == 1 else ""
    caption = (
        f"Cost on {contents.dataset_titles[name]}: medians over trials, the highest peak, and training every task once "
        f"in one fold.{bag} {_hardware(contents)}{_gaps(contents, name)}"
    )
    return cost_table(f"costs_{name}", caption, costs, contents.bag_of(name))


def _gaps(contents: Contents, name: str | None = None) -> str:
    """What the numbers of all cohorts, or of one, leave out, beginning with a blank; "" where nothing is."""
    datasets = contents.datasets if name is None else {name: contents.datasets[name]}
    scores = contents.scores[contents.scores["dataset"].isin(datasets)]
    left_out = [f"{dataset}: {task}" for dataset, task in contents.analysis.left_out if dataset in datasets]
    sentences = undefined(scores, datasets, contents.metric)
    if left_out:
        sentences.append(f"Left out of means, since not all models finished them: {', '.join(left_out)}.")
    return "".join(f" {sentence}" for sentence in sentences)


def _of_kind(contents: Contents) -> str:
    """Which tasks a mean is over, where they may not be all."""
    return "" if contents.kind == "binary" else f" of kind {contents.kind}"


def _metric(contents: Contents, dataset: str = "") -> str:
    """What the metric is and when there is no interval, ending with a blank; "" of AUROC."""
    notes = (metric_note(contents.kind, contents.bag_of(dataset)), TOO_SMALL_NOTES[contents.kind])
    return "".join(f"{note} " for note in notes if note)


def _too_small(contents: Contents) -> str:
    note = TOO_SMALL_NOTES[contents.kind]
    return f" {note}" if note else ""


def _hardware(contents: Contents) -> str:
    infos = [trial.info for run in contents.runs for trial in run.trials()]
    devices = sorted(
        {f"{info.get('device', 'unknown device')}, {info.get('threads', '?')} thread(s)" for info in infos}
    )
    return f"Measured on {'; '.join(devices)}."


def _five_cohorts(contents: Contents) -> str:
    return " Average: of these cohorts as they are." if len(contents.datasets) > 1 else ""


def _luad(contents: Contents) -> str:
    """What is not like for like with the paper, of the cohorts at hand."""
    found = [text for name, text in NOT_LIKE_FOR_LIKE.items() if name in contents.datasets]
    return "".join(f" Note: {text}." for text in found)
