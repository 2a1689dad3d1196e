"""Report: tables and figures of finished runs. A pure function of the stores: same stores, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.errors import StoreError
from milbench.report import figures
from milbench.report.tables import ABLATION, Table, model_table, task_table, to_csv, to_latex, to_markdown
from milbench.stats import SPREAD, SPREAD_OF_SIDES, score_table, summary
from milbench.store import Run, write_atomically, writing

NOT_LIKE_FOR_LIKE = {
    "tcga-luad": "the genes of the paper's LUAD row differ from the released table's, so that column is not like for like"
}


def write_report(runs: Sequence[Run], out: Path) -> Path:
    """The index page of a report on `runs`, written to the folder `out` with all that it names.

    Raises
    ------
    StoreError : no finished trial, two runs hold the same dataset, or `out` cannot be written.
    """
    scores = score_table(runs)
    if scores.empty:
        raise StoreError(
            f"{', '.join(str(run.path) for run in runs)}: no finished trial to report. Finish the run first."
        )
    _refuse_a_dataset_in_two_runs(runs)
    datasets = {name: facts for run in runs for name, facts in run.datasets.items() if name in set(scores["dataset"])}
    tables = _tables(runs, scores, datasets)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for table in tables:
            for suffix, render in (("tex", to_latex), ("csv", to_csv), ("md", to_markdown)):
                write_atomically(out / f"{table.name}.{suffix}", render(table).encode())
        write_atomically(out / "report.tex", _document(tables, list(datasets)).encode())
        drawn = [path for name, facts in datasets.items() for path in _draw(scores, name, facts["title"], out)]
        write_atomically(out / "index.md", _index(runs, tables, drawn).encode())
    return out / "index.md"


def published() -> pd.DataFrame:
    """Numbers printed in the M4 paper that could be traced to it: table, cohort, model, auroc, source, note."""
    with files("milbench.report").joinpath("published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _refuse_a_dataset_in_two_runs(runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        for name in run.datasets:
            if name in seen:
                raise StoreError(f"both {seen[name].path} and {run.path} hold '{name}'. Report them one at a time.")
            seen[name] = run


def _tables(runs: Sequence[Run], scores: pd.DataFrame, datasets: dict[str, Any]) -> list[Table]:
    titles = {name: facts["title"] for name, facts in datasets.items()}
    infos = [trial.info for run in runs for trial in run.trials()]
    how, paper, means = _how(runs, infos, scores, datasets), published(), summary(scores)
    tables = [model_table("table2", f"Mean test AUROC over tasks. {how}", means, titles, paper[paper["table"] == 2])]
    ablation = means[means["model"].isin(ABLATION)]
    if ablation["model"].nunique() > 1:
        caption = f"Ablation: what each part of M4 adds. {how}"
        tables.append(model_table("table3", caption, ablation, titles, paper[paper["table"] == 3]))
    for name, facts in datasets.items():
        rows = scores[scores["dataset"] == name]
        own = _how(runs, [info for info in infos if info["dataset"] == name], rows, {name: facts})
        tables.append(task_table(f"tasks_{name}", f"Test AUROC by task on {facts['title']}. {own}", rows))
    return tables


def _how(
    runs: Sequence[Run], infos: Sequence[Mapping[str, Any]], scores: pd.DataFrame, datasets: Mapping[str, Any]
) -> str:
    """What a caption must say of how the numbers came about."""
    sides_differ = any(facts.get("test_side_differs", False) for facts in datasets.values())
    parts = [
        f"Protocol {_all(info['protocol'] for info in infos)}; folds {_all(info['fold'] for info in infos)}; "
        f"seeds {_all(info['seed'] for info in infos)}; epochs {_all(info['recipe']['epochs'] for info in infos)}.",
        *(_about(name, facts) for name, facts in datasets.items()),
        *_undefined(scores, datasets),
        f"± is the {SPREAD_OF_SIDES if sides_differ else SPREAD}.",
    ]
    commits = _all(run.environment.get("git") or "unknown" for run in runs)
    return " ".join([*parts, f"milbench {_all(run.environment['milbench'] for run in runs)}, commit {commits}."])


def _about(name: str, facts: Mapping[str, Any]) -> str:
    """A sentence on one cohort: size, splits, settings."""
    settings = {**facts["model_defaults"], **facts["trainer_defaults"]}
    controls = facts.get("control_tasks", [])
    parts = [f"{facts['title']}: {facts['n_slides']} slides, {facts['n_patients']} patients, {facts['splits']} splits"]
    if facts["scaling"] != "none":
        parts[0] += f", features scaled by {facts['scaling']}"
    if settings:
        parts.append("settings of all models: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    if controls:
        parts.append(f"{', '.join(controls)} left out of means")
    if name in NOT_LIKE_FOR_LIKE:
        parts.append(NOT_LIKE_FOR_LIKE[name])
    return "; ".join(parts) + "."


def _undefined(scores: pd.DataFrame, datasets: Mapping[str, Any]) -> list[str]:
    """A sentence for every cohort with (task, fold) pairs that have no AUROC."""
    pairs = scores.loc[scores["auroc"].isna(), ["dataset", "task", "fold"]].drop_duplicates()
    return [
        f"{datasets[name]['title']}: {len(rows)} (task, fold) pairs have no AUROC and are left out of means ("
        + "; ".join(f"{task} in folds {_all(group['fold'])}" for task, group in rows.groupby("task", sort=False))
        + ")."
        for name, rows in pairs.groupby("dataset", sort=False)
    ]


def _all(values: Any) -> str:
    """The distinct values, sorted, as text."""
    return ", ".join(str(value) for value in sorted(set(values)))


def _draw(scores: pd.DataFrame, name: str, title: str, out: Path) -> list[Path]:
    rows = scores[(scores["dataset"] == name) & scores["auroc"].notna()]
    signal = rows[~rows["is_control"].astype(bool)]
    paths = []
    if len(signal):
        paths += figures.save(
            figures.box(signal, f"{title}: test AUROC over tasks, folds and seeds"), out / f"box_{name}"
        )
    if rows["task"].nunique() >= 3:
        paths += figures.save(figures.radar(rows, f"{title}: mean test AUROC by task"), out / f"radar_{name}")
    return paths


def _document(tables: Sequence[Table], datasets: Sequence[str]) -> str:
    """A small LaTeX document with every table and figure, for a first look."""
    body = [rf"\input{{{table.name}}}" for table in tables]
    for name in datasets:
        for kind in ("radar", "box"):
            body.append(
                rf"\IfFileExists{{{kind}_{name}.pdf}}"
                rf"{{\clearpage\centering\includegraphics[width=0.9\textwidth,height=0.85\textheight,keepaspectratio]{{{kind}_{name}.pdf}}\par}}{{}}"
            )
    return "\n".join([
        r"\documentclass[a4paper,landscape]{article}", r"\usepackage[margin=1.5cm]{geometry}",
        r"\usepackage{booktabs}", r"\usepackage{graphicx}", r"\begin{document}", *body, r"\end{document}", "",
    ])  # fmt: skip


def _index(runs: Sequence[Run], tables: Sequence[Table], drawn: Sequence[Path]) -> str:
    """Markdown page with every table and figure."""
    lines = [f"# Report: {', '.join(run.name for run in runs)}", ""]
    for table in tables:
        lines += [f"## {table.name}", "", to_markdown(table), f"[LaTeX]({table.name}.tex), [CSV]({table.name}.csv)", ""]
    lines += [f"![{path.stem}]({path.name})" for path in drawn if path.suffix == ".png"]
    failures = [f"- {row['id']}: {row['type']}: {row['message']}" for run in runs for row in run.failures()]
    return "\n".join([*lines, "", *(["## Failed trials", "", *failures, ""] if failures else [])])
