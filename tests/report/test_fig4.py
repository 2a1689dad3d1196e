"""Figure 4: the right trials beside each other, and pictures that are the same every time."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from runs_for_tests import make_run, write_as_another

from milbench.errors import StoreError
from milbench.report.fig4 import experts_figure, tasks_figure
from milbench.report.figures import save
from milbench.report.study import experts_table, tasks_table, write_study
from milbench.report.study_runs import StudyRuns
from milbench.store.run import Run

GENES = ("TP53", "PIK3CA")
"""What M4 learns in the run of two tasks."""


def only(run: Run, tasks: tuple[str, ...]) -> Run:
    """The run with its multi-task trials narrowed to some tasks, as `--tasks` would have trained them."""
    facts = {name: {**facts, "tasks": list(tasks), "control_tasks": []} for name, facts in run.datasets.items()}
    (run.path / "datasets.json").write_text(json.dumps(facts))
    for trial in run.trials():
        table = trial.predictions()
        narrowed = table[table["task"].isin(tasks)]
        write_as_another(run, trial, narrowed, tasks=list(tasks))
    return Run(run.path)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRuns:
    folder = tmp_path_factory.mktemp("study")
    main = make_run(folder / "main", datasets=("toy", "other"), models=("amil", "m4"))
    for trial in main.trials():
        write_as_another(main, trial, trial.predictions(), hyperparameters={"experts": 5})
    experts = {number: make_run(folder / f"experts-{number}", models=("m4",)) for number in (1, 9)}
    return StudyRuns(Run(main.path), experts, {2: only(make_run(folder / "tasks-2", models=("m4",)), GENES)})


def test_fig4a_holds_every_number_of_experts_and_amil_without_one(study: StudyRuns) -> None:
    table = experts_table(study)
    assert sorted(table["experts"].dropna().unique()) == [1, 5, 9]
    assert set(table.loc[table["experts"].isna(), "model"]) == {"amil"}
    assert set(table["dataset"]) == {"toy"}, "cohorts on which nothing was varied are left out"
    assert not table["is_control"].any()


def test_fig4b_scores_both_models_on_the_same_tasks(study: StudyRuns) -> None:
    table = tasks_table(study)
    cells = {
        model: set(zip(rows["tasks"], rows["task"], rows["fold"], strict=True))
        for model, rows in table.groupby("model")
    }
    assert cells["amil"] == cells["m4"]
    assert {task for number, task, _ in cells["m4"] if number == 2} == set(GENES)
    assert {number for number, *_ in cells["m4"]} == {2, 3}, "the main run's three tasks that count are the last group"


def test_amils_rows_are_the_main_runs_single_task_trials(study: StudyRuns) -> None:
    table = tasks_table(study)
    amil = table[(table["model"] == "amil") & (table["task"] == "TP53")].pivot(
        index="fold", columns="tasks", values="score"
    )
    assert (amil[2] == amil[3]).all()


def test_the_same_numbers_give_the_same_bytes(study: StudyRuns, tmp_path: Path) -> None:
    for name, draw, rows in (("a", experts_figure, experts_table(study)), ("b", tasks_figure, tasks_table(study))):
        rows = rows[rows["dataset"] == "toy"]
        first, again = (save(draw(rows, "Toy"), tmp_path / f"{name}{copy}") for copy in range(2))
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_figures_can_be_drawn_without_amil(study: StudyRuns, tmp_path: Path) -> None:
    rows = experts_table(study)
    assert save(experts_figure(rows[rows["model"] == "m4"], "Toy"), tmp_path / "a")


def test_the_studys_report_is_that_of_the_main_run_and_the_figures_asked_for(study: StudyRuns, tmp_path: Path) -> None:
    index = write_study(study, ("table2", "fig4a", "fig4b"), tmp_path, draws=50)
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{stem}_toy.{suffix}" for stem in ("fig4a", "fig4b") for suffix in ("png", "pdf", "csv")} <= names
    assert {"index.html", "table2.tex"} <= names
    assert index.name == "index.html"
    assert "fig4a_toy.png" in (tmp_path / "index.md").read_text()
    assert r"\input{fig4b_toy}" in (tmp_path / "report.tex").read_text()
    assert (tmp_path / "report.tex").read_text().rstrip().endswith(r"\end{document}")
    written = pd.read_csv(tmp_path / "fig4b_toy.csv")
    assert set(written["model"]) == {"amil", "m4"}


def test_figures_that_nobody_asked_for_are_not_drawn(study: StudyRuns, tmp_path: Path) -> None:
    write_study(study, ("table2",), tmp_path, draws=50)
    assert not list(tmp_path.glob("fig4*"))


def test_a_study_without_its_main_run_is_refused(study: StudyRuns, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no main run"):
        write_study(replace(study, main=None), ("table2",), tmp_path)
