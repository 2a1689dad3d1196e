"""Runs -> `PageData`: curves, ROC scores, failures, undefined cells and provenance, from the stores alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from milbench.cohorts.bag_names import told_of
from milbench.report.captions import distinct, tuned_in_words
from milbench.report.html.data import CURVES, FAILURES, UNDEFINED, KindBlock, PageData, Picture, RocCurve, RunFacts
from milbench.report.kinds import UNDEFINED_IF, bag_of
from milbench.report.published import PAPERS_COHORTS
from milbench.report.tables import Table
from milbench.stats.analysis import Analysis
from milbench.store.columns import Coded, Columns
from milbench.store.feature_facts import Facts, in_words
from milbench.store.joined import stacked_histories
from milbench.store.pasteable import pasteable
from milbench.store.run import Run
from milbench.store.trial import StoredTrial


def page_data(
    runs: Sequence[Run],
    analysis: Analysis,
    *,
    title: str = "",
    costs: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    highlight: str = "",
    claims: pd.DataFrame | None = None,
    kinds: Sequence[KindBlock] = (),
    sharing: Sequence[Table] = (),
    tuning_tables: Sequence[Table] = (),
    tuning_pictures: Sequence[Picture] = (),
) -> PageData:
    """What the page shows of `runs`.

    Parameters
    ----------
    costs : rows of `milbench.report.costs.cost_frame`.
    """
    stored = [(run, run.trials()) for run in runs]  # once: every look at a trial hashes its files
    trials = [trial for _, found in stored for trial in found]
    predictions = _test_rows(trials)
    datasets = {name: facts for run in runs for name, facts in run.datasets.items()}
    given = {"baselines": baselines, "published": _comparable(published, set(datasets)), "claims": claims}
    return PageData(
        title=title or f"Report: {', '.join(run.name for run in runs)}",
        analysis=analysis,
        curves=_curves(trials),
        roc=_roc(predictions),
        costs=costs,
        failures=_failures(stored),
        undefined=pd.concat(
            [_undefined(predictions, datasets), *(_undefined_of_kind(block, datasets) for block in kinds)],
            ignore_index=True,
        ),
        provenance=tuple(_facts(run, found) for run, found in stored),
        notes=tuple(notes),
        highlight=highlight,
        kinds=tuple(kinds),
        sharing=tuple(sharing),
        tuning_tables=tuple(tuning_tables),
        tuning_pictures=tuple(tuning_pictures),
        cohort_titles={name: str(facts["title"]) for name, facts in datasets.items()},
        bag=bag_of(datasets.values()),
        pooled=tuple(name for name, facts in datasets.items() if facts.get("test_side_differs", False)),
        **{name: frame for name, frame in given.items() if frame is not None},
    )


def _comparable(published: pd.DataFrame | None, datasets: set[str]) -> pd.DataFrame | None:
    """The paper's numbers on our cohorts; its average only beside an average over the same ones."""
    if published is None:
        return None
    return published[published["cohort"].isin(datasets | ({"average"} if datasets == PAPERS_COHORTS else set()))]


def _curves(trials: Sequence[StoredTrial]) -> pd.DataFrame:
    return stacked_histories(trials, [_identity(trial) for trial in trials]).reindex(columns=list(CURVES))


def _identity(trial: StoredTrial) -> dict[str, Any]:
    info = trial.info
    label = info["tasks"][0] if info["model_tasks"] == "single" else "all"
    return {"dataset": info["dataset"], "model": info["model"], "task_label": label, "fold": info["fold"],
            "seed": info["seed"]}  # fmt: skip


def _test_rows(trials: Sequence[StoredTrial]) -> pd.DataFrame:
    """Rows of the test sides of binary tasks with a known label; names are categories in the order of the alphabet."""
    parts = [_tested(trial) for trial in trials]
    lengths = [len(part.target) for part in parts]
    facts = {key: Coded.of([str(trial.info[key]) for trial in trials]) for key in ("dataset", "model")}
    return pd.DataFrame({
        "slide_id": _categories([part.slide_id for part in parts]),
        "task": _categories([part.task for part in parts]),
        "target": np.concatenate([part.target for part in parts]),
        "probability": np.concatenate([part.prediction for part in parts]),
        **{key: _categories([Coded(np.repeat(each.codes, lengths), each.values)]) for key, each in facts.items()},
        "fold": np.repeat([trial.info["fold"] for trial in trials], lengths),
    })  # fmt: skip


def _tested(trial: StoredTrial) -> Columns:
    columns = trial.answer_columns()
    binary = [task for task, fitted in trial.endpoint_of.items() if fitted.kind == "binary"]
    return columns.where(columns.role.are("test") & ~np.isnan(columns.target) & (columns.task.among(binary) >= 0))


def _categories(columns: Sequence[Coded]) -> pd.Categorical:
    """The columns one after the other."""
    names = sorted({name for column in columns for name in column.values})
    return pd.Categorical.from_codes(np.concatenate([column.among(names) for column in columns]), categories=names)


def _roc(predictions: pd.DataFrame) -> tuple[RocCurve, ...]:
    keys = ["dataset", "task", "model"]
    slides = (
        predictions.groupby([*keys, "slide_id"], sort=True, observed=True)[["target", "probability"]]
        .mean()
        .reset_index()
    )
    return tuple(
        RocCurve(dataset, task, model, tuple(rows["target"].astype(int)), tuple(rows["probability"].astype(float)))
        for (dataset, task, model), rows in slides.groupby(keys, sort=True, observed=True)
    )


def _undefined(predictions: pd.DataFrame, datasets: Mapping[str, Facts]) -> pd.DataFrame:
    """One row per (cohort, task, fold) whose test side holds one class only."""
    slides = predictions.drop_duplicates(["dataset", "task", "fold", "slide_id"])
    rows = [
        (
            *key,
            f"no {'positive' if group['target'].max() == 0 else 'negative'} among {len(group)} labelled test {bag_of([datasets[key[0]]])}s",
        )
        for key, group in slides.groupby(["dataset", "task", "fold"], sort=True, observed=True)
        if group["target"].nunique() < 2
    ]
    return pd.DataFrame(rows, columns=list(UNDEFINED))


def _undefined_of_kind(block: KindBlock, datasets: Mapping[str, Facts]) -> pd.DataFrame:
    """One row per (cohort, task, fold) of another kind in which a model has no score."""
    rows = block.scores.loc[block.scores["score"].isna(), ["dataset", "task", "fold"]].drop_duplicates()
    reason = f"no {block.analysis.metric.title}: {UNDEFINED_IF[block.kind]}"
    return rows.assign(reason=[told_of(bag_of([datasets[name]]), reason) for name in rows["dataset"]])


def _failures(stored: Sequence[tuple[Run, list[StoredTrial]]]) -> pd.DataFrame:
    """Planned trials without a result: failed with the reason, or not finished yet."""
    rows: dict[str, tuple[str, str, str]] = {}
    for run, trials in stored:
        finished = {trial.id for trial in trials}
        for trial_id in run.planned().values():
            if trial_id not in finished:
                rows[trial_id] = (trial_id, "not finished", "planned; the same `milbench run` command goes on")
        for row in run.failures():
            rows[str(row["id"])] = (str(row["id"]), str(row["type"]), str(row["message"]))
    return pd.DataFrame([rows[key] for key in sorted(rows)], columns=list(FAILURES))


def _facts(run: Run, trials: Sequence[StoredTrial]) -> RunFacts:
    """Versions, hardware, settings, split hashes and the commands that repeat the run."""
    infos, environment = [trial.info for trial in trials], run.environment
    facts = [
        ("repeat the run", f"milbench run --config {pasteable(run.shown / 'run.yaml')}"),
        ("render the report", f"milbench report {pasteable(run.shown)}"),
        ("trials", f"{len(infos)} finished of {len(run.planned())} planned"),
        ("protocol", distinct(info["protocol"] for info in infos)),
        *((f"settings of {dataset}", words) for dataset, words in _tuned(run)),
        ("folds; seeds", f"{distinct(info['fold'] for info in infos)}; {distinct(info['seed'] for info in infos)}"),
        ("milbench", str(environment.get("milbench", "unknown"))),
        ("commit", str(environment.get("git") or "")),
        *(
            (f"licence of {name}'s data, as declared", str(told.get("licence", "")))
            for name, told in run.datasets.items()
        ),
        *((f"split of {dataset}", hashes) for dataset, hashes in _splits(infos).items()),
        *(
            (f"features of {name}", _made(told["features"]))
            for name, told in run.datasets.items()
            if told.get("features")
        ),
        *((label, str(environment[label])) for label in ("python", "platform", "cpu", "cores") if label in environment),
        *(
            (f"notes on {dataset}", "\n".join(facts["notes"]))
            for dataset, facts in run.datasets.items()
            if facts.get("notes")
        ),
        ("devices", distinct(info.get("device", "unknown") for info in infos)),
        ("packages", ", ".join(f"{name} {value}" for name, value in sorted(_packages(environment).items()))),
        ("configuration", json.dumps(run.config, indent=1, sort_keys=True, ensure_ascii=False)),
    ]
    return RunFacts(run.name, tuple((label, value) for label, value in facts if value))


def _made(features: Facts) -> str:
    """How feature files were made, a line per fact."""
    return "\n".join(f"{name}: {text}" for name, text in in_words(features).items())


def _tuned(run: Run) -> Iterator[tuple[str, str]]:
    """Cohorts whose settings an earlier search chose, with its command."""
    for dataset, facts in run.datasets.items():
        if tuned := facts.get("tuned"):
            yield dataset, f"{tuned_in_words(tuned)} ({tuned['made']}): {tuned['command']}"


def _packages(environment: Mapping[str, Any]) -> dict[str, str]:
    return dict(environment.get("packages", {}))


def _splits(infos: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The SHA-256 of every cohort's split, with the number of trials if they do not agree."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for info in infos:
        counts[info["dataset"]][info["split_sha256"]] += 1
    return {
        dataset: next(iter(found))
        if len(found) == 1
        else "; ".join(f"{value} ({found[value]} trials)" for value in sorted(found))
        for dataset, found in sorted(counts.items())
    }
