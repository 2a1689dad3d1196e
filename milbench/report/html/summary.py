"""The report in words: what was compared, who leads and whether that is more than chance, and what is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from milbench.report.html.data import PageData

LEVEL = 0.05
READING = (
    "An interval in brackets is a 95 % bootstrap interval: it says where the mean would lie with other test patients "
    "and other trainings. ± is the spread over folds and seeds: how much training varies, not an interval."
)


def sentences(page: PageData) -> list[str]:
    """Paragraphs for the top of the page, as plain text."""
    several = len(page.analyses) > 1
    paragraphs = [_compared(page)]
    for analysis in page.analyses:
        one = replace(page, analysis=analysis)
        ranking = _ranking(one)
        kind = f"{analysis.kind.capitalize()} tasks: " if several else ""
        paragraphs += [kind + _leader(one, ranking), _lead(one, ranking)]
    paragraphs += [_missing(page), READING]
    return [paragraph for paragraph in paragraphs if paragraph]


def _compared(page: PageData) -> str:
    cohorts = pd.concat([analysis.cohorts for analysis in page.analyses])
    tasks = pd.concat([analysis.tasks for analysis in page.analyses])
    names = [page.cohort_titles.get(str(name), str(name)) for name in cohorts["dataset"].unique()]
    signal = tasks[~tasks["is_control"].astype(bool)]
    trials = page.curves[["dataset", "model", "task_label", "fold", "seed"]].drop_duplicates()
    text = (
        f"Compared: {_count(cohorts['model'].nunique(), 'model')} on {_count(len(names), 'cohort')} "
        f"({', '.join(names)}), {_count(len(signal), 'task')}"
    )
    controls = len(tasks) - len(signal)
    text += f" and {_count(controls, 'control task')} left out of every mean" if controls else ""
    return text + (f", from {_count(len(trials), 'finished trial')}." if len(trials) else ".")


def _ranking(page: PageData) -> pd.DataFrame:
    """Models by falling mean score: over cohorts where there are several, else on the only one."""
    analysis = page.analysis
    several = analysis.cohorts["dataset"].nunique() > 1 and len(analysis.overall) > 0
    means = analysis.overall if several else analysis.cohorts
    return means.dropna(subset=["score"]).sort_values("score", ascending=False, kind="stable")


def _leader(page: PageData, ranking: pd.DataFrame) -> str:
    title = page.analysis.metric.title
    if ranking.empty:
        return f"No model has a defined mean {title}, so none leads."
    best = ranking.iloc[0]
    over = "over the cohorts' means" if "dataset" not in ranking else "over tasks"
    who = "is the only model, with" if len(ranking) == 1 else "leads with"
    return f"{best['title']} {who} a mean test {title} of {best['score']:.3f}{_interval(best)} {over}."


def _lead(page: PageData, ranking: pd.DataFrame) -> str:
    """Whether the first is told apart from the second, as the pairwise test has it."""
    if len(ranking) < 2:
        return "" if ranking.empty else "With one model there is nothing to compare."
    first, second = ranking.iloc[0], ranking.iloc[1]
    pair = _pair(page, str(first["model"]), str(second["model"]), one_cohort="dataset" in ranking)
    if pair is None or math.isnan(pair["p_holm"]):
        delta = first["score"] - second["score"]
        return f"Its lead over the runner-up, {second['title']}, is {delta:.3f}; it was not tested."
    lead = f"Its lead over the runner-up, {second['title']}, is {_number(pair['delta'])}{_interval(pair)}"
    verdict = (
        "survives the correction for comparing all pairs"
        if pair["p_holm"] < LEVEL
        else "does not survive the correction for comparing all pairs: these data do not tell the two apart"
    )
    return f"{lead} and {verdict} (Holm p {_p(pair['p_holm'])}).{_sign_flip(page, pair)}"


def _pair(page: PageData, first: str, second: str, *, one_cohort: bool) -> pd.Series | None:
    """The row of the two models, turned so that `delta` is first − second."""
    pairs = page.analysis.pairs
    if pairs.empty:
        return None
    scope = page.analysis.cohorts["dataset"].iloc[0] if one_cohort else "all"
    rows = pairs[pairs["dataset"] == scope]
    forward = rows[(rows["model_a"] == first) & (rows["model_b"] == second)]
    if len(forward):
        return forward.iloc[0]
    backward = rows[(rows["model_a"] == second) & (rows["model_b"] == first)]
    return _turned(backward.iloc[0]) if len(backward) else None


def _turned(pair: pd.Series) -> pd.Series:
    turned = pair.copy()
    turned["delta"], turned["low"], turned["high"] = -pair["delta"], -pair["high"], -pair["low"]
    return turned


def _sign_flip(page: PageData, pair: pd.Series) -> str:
    """The cohorts' own test, with the smallest p that so few cohorts allow."""
    p, n_cohorts = pair.get("p_sign_flip", math.nan), page.analysis.cohorts["dataset"].nunique()
    if pd.isna(p) or n_cohorts < 2:
        return ""
    return f" Across the cohorts: exact sign-flip p {_p(p)}, where {n_cohorts} cohorts allow no less than {2 / 2**n_cohorts:.3g}."


def _missing(page: PageData) -> str:
    analyses = page.analyses
    too_small = sum(int(analysis.tasks["too_small"].astype(bool).sum()) for analysis in analyses)
    one_class = "without a score" if page.kinds else "whose test side holds one class only"
    too_few = "too few test patients" if page.kinds else "fewer than ten test patients of a class"
    counts = [
        (
            sum(row[2] for analysis in analyses for row in analysis.incomplete),
            "cells that a model lacks and others have",
        ),
        (sum(len(analysis.left_out) for analysis in analyses), "tasks left out of means and tests for that"),
        (len(page.undefined), f"(task, fold) pairs {one_class}"),
        (too_small, f"tasks with {too_few} (no interval)"),
        (len(page.failures), "trials that failed or are not finished"),
    ]
    found = [f"{what}: {number}" for number, what in counts if number]
    return f"Not whole: {'; '.join(found)}." if found else "Nothing is missing: every model has every cell."


def _interval(row: pd.Series) -> str:
    if pd.isna(row["low"]) or pd.isna(row["high"]):
        return ""
    return f" [{_number(row['low'])}, {_number(row['high'])}]"


def _number(value: float) -> str:
    """Three places with a true minus; no minus before nothing."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
