"""The study's report: that of the main run, with Fig. 4a and 4b from the runs beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from milbench.errors import StoreError
from milbench.report import DRAWS, write_report
from milbench.report.attention_claim import Attention
from milbench.report.claims import judge_claims
from milbench.report.fig4 import experts_figure, tasks_figure
from milbench.report.figures import STUDIED, save
from milbench.report.floats import figure_float
from milbench.report.study_runs import StudyRuns
from milbench.report.table1 import table1
from milbench.report.tables import to_csv, to_latex, to_markdown
from milbench.stats.metric import AUROC
from milbench.stats.scores import score_table
from milbench.store.csv_files import spreadsheet_csv
from milbench.store.files import write_atomically, writing
from milbench.store.run import Run

REFERENCE = "amil"
"""The single-task model that M4 is built on, beside which the paper's Fig. 4 shows it."""


BOXES = "One dot per trained (task, fold, seed), control tasks left out; diamond: mean."
CAPTIONS = {
    "fig4a": "Test AUROC of M4 on {} by number of experts, beside AMIL, which has none. " + BOXES,
    "fig4b": "Test AUROC of AMIL and M4 on {} by number of tasks that M4 learns together. Left: scored on these tasks. "
    "Right: all scored on the tasks of the smallest number. " + BOXES,
}
"""What a reader of Fig. 4 must know; braces stand for the cohort."""


def write_study(
    study: StudyRuns, parts: Sequence[str], out: Path, *, draws: int = DRAWS, attention: Attention | None = None
) -> Path:
    """The index of a report on the study, written to `out` with all that it names.

    Parameters
    ----------
    parts : names such as "table1" and "fig4a"; figures that nobody asked for are not drawn.
    attention : what the models look at, for the claim on Fig. 5.

    Raises
    ------
    StoreError : there is no main run, a grid is incomplete, or `out` cannot be written.
    """
    study = study.snapshot()
    if study.main is None:
        raise StoreError("the study has no main run, which every part shares. Start `milbench reproduce` first.")
    if not study.main.trials():
        return _write_table1(study.main, out)
    claims = judge_claims(study, draws=draws, attention=attention)
    index = write_report([study.main], out, draws=draws, title="the M4 study", claims=claims)
    with writing(out):
        drawn = [name for part in parts for name in _write_fig4(study, part, out)]
        _add(out / "index.md", "".join(f"\n![{name}]({name}.png)\n" for name in drawn))
        _add(out / "report.tex", "".join(rf"\input{{{name}}}" + "\n" for name in drawn), before=r"\end{document}")
    return index


def _add(path: Path, text: str, before: str = "") -> None:
    """Put `text` at the end of the file, or before the last place of `before` in it."""
    whole = path.read_text()
    place = whole.rindex(before) if before else len(whole)
    write_atomically(path, f"{whole[:place]}{text}{whole[place:]}".encode())


def _write_table1(run: Run, out: Path) -> Path:
    """Table 1 alone: it needs labels and no trial."""
    table = table1([run])
    if table is None:
        raise StoreError(f"{run.path} stores no labels, so there is no Table 1. Start `milbench reproduce` again.")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for suffix, render in (("tex", to_latex), ("csv", to_csv), ("md", to_markdown)):
            write_atomically(out / f"table1.{suffix}", render(table).encode())
    return out / "table1.md"


def _write_fig4(study: StudyRuns, part: str, out: Path) -> Iterator[str]:
    """Names of the part's figures, each written with the table of its numbers."""
    makers = {"fig4a": (experts_table, experts_figure), "fig4b": (tasks_table, tasks_figure)}
    if part not in makers or study.main is None:
        return
    tabulate, draw = makers[part]
    for dataset, rows in tabulate(study).groupby("dataset", sort=False):
        name = f"{part}_{dataset}"
        write_atomically(out / f"{name}.csv", spreadsheet_csv(AUROC.as_written(rows)).encode())
        title = str(study.main.datasets[str(dataset)]["title"])
        save(draw(rows, title), out / name)
        write_atomically(out / f"{name}.tex", figure_float(name, CAPTIONS[part].format(title)).encode())
        yield name


def experts_table(study: StudyRuns) -> pd.DataFrame:
    """Scores behind Fig. 4a.

    Returns
    -------
    DataFrame : rows of `milbench.stats.scores.score_table` with a defined AUROC and without control tasks, for AMIL and for
        M4 at every number of experts; `experts` is that number, empty for AMIL.
    """
    main = _signal(study.main)
    numbers = {study.main_experts: main, **{number: _signal(run) for number, run in study.experts.items()}}
    frames = [rows[rows["model"] == STUDIED].assign(experts=number) for number, rows in sorted(numbers.items())]
    both = pd.concat([main[main["model"] == REFERENCE].assign(experts=pd.NA), *frames], ignore_index=True)
    return _where_varied(both, frames).astype({"experts": "Int64"})


def tasks_table(study: StudyRuns) -> pd.DataFrame:
    """Scores behind Fig. 4b, AMIL's and M4's on the same tasks.

    Returns
    -------
    DataFrame : as `experts_table`, with `tasks`: how many M4 learns together. AMIL's rows are its single-task trials on
        the very tasks that count there.
    """
    main = _signal(study.main)
    frames = []
    for number, run in sorted(study.tasks.items()):
        m4 = _signal(run)
        same = main[(main["model"] == REFERENCE) & _pairs(main).isin(_pairs(m4))]
        frames.append(pd.concat([same, m4[m4["model"] == STUDIED]]).assign(tasks=number))
    varied = {dataset for frame in frames for dataset in frame["dataset"]}
    for dataset, rows in main[main["model"].isin([REFERENCE, STUDIED])].groupby("dataset", sort=False):
        if dataset in varied:
            frames.append(rows.assign(tasks=rows["task"].nunique()))
    return pd.concat(frames, ignore_index=True) if frames else main.iloc[:0].assign(tasks=0)


def _signal(run: Run | None) -> pd.DataFrame:
    """The run's defined scores on tasks that count."""
    scores = score_table([run] if run else [])
    return scores[scores["score"].notna() & ~scores["is_control"].astype(bool)]


def _pairs(scores: pd.DataFrame) -> pd.Series:
    return scores["dataset"] + "\n" + scores["task"]


def _where_varied(both: pd.DataFrame, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of cohorts on which more than one number was tried: the main run may hold others."""
    tried = pd.concat(frames).groupby("dataset")["experts"].nunique()
    return both[both["dataset"].isin(tried[tried > 1].index)].reset_index(drop=True)
