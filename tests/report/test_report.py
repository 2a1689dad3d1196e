"""The report: the right numbers, in LaTeX that compiles and pictures that are the same every time."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from runs_for_tests import MODELS, TASKS, make_run

from milbench.errors import StoreError
from milbench.report import published, write_report
from milbench.report.figures import polygon_area, radar, styles
from milbench.report.tables import (
    PAPERS_COHORTS,
    Cell,
    Table,
    latex,
    model_table,
    task_table,
    to_csv,
    to_latex,
    to_markdown,
)
from milbench.stats import coverage, score_table, summary
from milbench.store import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "two", datasets=("tcga-gbmlgg", "tcga-luad"))


@pytest.fixture(scope="module")
def report(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([run], tmp_path_factory.mktemp("reports") / "two").parent


def test_every_promised_file_is_there(report: Path) -> None:
    names = {path.name for path in report.iterdir()}
    tables = {
        f"{stem}.{suffix}"
        for stem in ("table2", "table3", "tasks_tcga-gbmlgg", "tasks_tcga-luad")
        for suffix in ("tex", "csv", "md")
    }
    figures = {
        f"{kind}_tcga-{name}.{suffix}"
        for kind in ("radar", "box")
        for name in ("gbmlgg", "luad")
        for suffix in ("png", "pdf")
    }
    assert names == tables | figures | {"report.tex", "index.md"}


def test_the_same_stores_give_the_same_bytes(run: Run, report: Path, tmp_path: Path) -> None:
    write_report([Run(run.path)], tmp_path / "again")
    for path in report.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_csv_holds_the_summary_in_full_precision(run: Run, report: Path) -> None:
    table = pd.read_csv(report / "table2.csv")
    expected = summary(score_table([run]))
    for row in expected.itertuples():
        cell = table[(table["method"] == row.title) & (table["column"] == row.dataset.upper())].iloc[0]
        assert (cell["mean"], cell["sd"]) == (row.mean, row.sd)
    average = table[table["column"] == "Average"].set_index("method")["mean"]
    assert average["M4"] == pytest.approx(expected[expected["model"] == "m4"]["mean"].mean())


def test_best_is_bold_second_underlined_and_ties_share() -> None:
    rows = tuple((name, (Cell(mean, 0.01),)) for name, mean in (("a", 0.9), ("b", 0.8), ("c", 0.9004), ("d", 0.1)))
    table = Table("t", "caption", ("X",), rows)
    text = to_latex(table)
    assert text.count(r"\textbf{0.900}") == 2
    assert r"\underline{0.800}" in text
    assert text.count(r"\underline") == 1
    assert "**0.900** ± 0.010" in to_markdown(table)


def test_an_incomplete_model_is_not_ranked_nor_averaged(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", datasets=("one", "other"), models=("amil", "m4"), leave_out=("one/m4/all/fold2",))
    out = write_report([run], tmp_path / "report").parent
    row = next(line for line in (out / "table2.md").read_text().splitlines() if line.startswith("| M4"))
    assert "incomplete (6 of 9)" in row
    assert row.rstrip().endswith("– |")
    assert "**" not in row.split("|")[2]


def test_the_count_of_an_incomplete_single_task_model_is_of_the_whole_grid(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), leave_out=("toy/amil/TP53/fold0",))
    out = write_report([run], tmp_path / "report").parent
    assert "| AMIL | incomplete (8 of 9) |" in (out / "table2.md").read_text()
    assert "| AMIL | incomplete (2 of 3) |" in (out / "tasks_toy.md").read_text()


def test_a_task_that_no_fold_can_score_is_counted_in_the_caption_and_leaves_the_figures_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", one_class=("A_B",))
    text = (write_report([run], tmp_path / "report").parent / "table2.md").read_text()
    assert "TOY: 3 (task, fold) pairs have no AUROC and are left out of means (A_B in folds 0, 1, 2)." in text
    assert "incomplete" not in text
    scores = score_table([run])
    assert [cells[2].n_missing for _, cells in task_table("t", "c", scores).rows] == [0] * len(MODELS)
    legend = labels(radar(scores.dropna(subset=["auroc"]), "toy"))
    assert len(legend) == len(MODELS)
    assert not any("incomplete" in text for text in legend)


def test_the_radar_names_a_model_that_it_cannot_draw(tmp_path: Path) -> None:
    scores = score_table([make_run(tmp_path / "toy", leave_out=("toy/m4/all/fold2",))])
    assert coverage(scores)["m4"].n_missing == len(TASKS)
    assert labels(radar(scores, "toy"))[-1] == "M4  incomplete, not drawn"


def labels(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_published_numbers_stand_beside_ours_and_name_their_source(run: Run, report: Path) -> None:
    table = published()
    assert table["source"].str.contains("arXiv:2407.17267").all()
    ours = {row.cohort: row.auroc for row in table[(table["table"] == 3) & (table["model"] == "m4")].itertuples()}
    assert f"[{ours['tcga-gbmlgg']:.3f}]" in (report / "table3.md").read_text()
    assert "not like for like" in (report / "table2.md").read_text()


@pytest.mark.parametrize(("cohorts", "expected"), [(PAPERS_COHORTS, 0.636), ({"tcga-gbmlgg", "tcga-luad"}, np.nan)])
def test_the_papers_average_stands_only_beside_an_average_over_its_five_cohorts(
    cohorts: set[str], expected: float
) -> None:
    names = sorted(cohorts)
    rows = pd.DataFrame([
        {"dataset": name, "model": "amil", "title": "AMIL", "mean": 0.6, "sd": 0.1, "n_runs": 1, "n_tasks": 1, "n_undefined": 0, "n_missing": 0, "n_cells": 1}
        for name in names
    ])  # fmt: skip
    table = model_table("t", "c.", rows, {name: name for name in names}, published().query("table == 2"))
    assert table.rows[0][1][-1].published == pytest.approx(expected, nan_ok=True)
    assert ("In brackets" in table.caption) is (cohorts == PAPERS_COHORTS)


def test_nine_models_look_different_wherever_m4_stands() -> None:
    names = ["m4", *"abcdefgh"]
    looks = styles(names).values()
    assert len({(str(look["color"]), str(look["linestyle"]), look["marker"]) for look in looks}) == 9
    assert len({look["color"] for look in looks}) == 9


def test_the_caption_says_how_the_numbers_came_about(report: Path) -> None:
    text = (report / "table2.tex").read_text()
    for part in (
        "Protocol m4",
        "folds 0, 1, 2",
        "seeds 42",
        "epochs 2",
        "hidden 64",
        "lr 0.01",
        "scaled by standard",
        "control left out",
        "not a confidence interval",
        "0123abc",
    ):
        assert part in text


def test_special_characters_are_escaped() -> None:
    assert latex(r"A_B & 5% {x} #1 ~ \y") == r"A\_B \& 5\% \{x\} \#1 \textasciitilde{} \textbackslash{}y"


def test_a_missing_number_is_a_dash_and_an_empty_cell() -> None:
    table = Table("t", "c", ("X",), (("a", (Cell(),)), ("b", (Cell(0.5),))))
    assert "a & --" in to_latex(table)
    assert to_csv(table).splitlines()[1] == "a,X,,,0,"


def test_the_polygons_area_is_that_of_its_corners() -> None:
    values = np.array([0.9, 0.6, 0.7, 0.8, 0.5])
    angles = np.arange(5) * 2 * np.pi / 5

    def shoelace(radius: np.ndarray) -> float:
        x, y = radius * np.cos(angles), radius * np.sin(angles)
        return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2

    assert polygon_area(values) == pytest.approx(shoelace(values) / shoelace(np.ones(5)))
    assert np.isnan(polygon_area(np.array([0.5, 0.6])))


def test_the_order_of_columns_is_the_runs() -> None:
    rows = pd.DataFrame([
        {"dataset": name, "model": "m4", "title": "M4", "mean": 0.5, "sd": 0.1, "n_runs": 1, "n_tasks": 1, "n_undefined": 0, "n_missing": 0, "n_cells": 1}
        for name in ("b", "a")
    ])  # fmt: skip
    table = model_table("t", "c", rows, {"b": "B", "a": "A"}, published().iloc[:0])
    assert table.columns == ("B", "A", "Average")


def test_a_dataset_in_two_runs_and_a_run_without_trials_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="hold 'tcga-gbmlgg'"):
        write_report([run, Run(run.path)], tmp_path / "out")
    empty = make_run(tmp_path / "empty", models=())
    with pytest.raises(StoreError, match="no finished trial"):
        write_report([empty], tmp_path / "out")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_compiles(report: Path, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "tex")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    result = subprocess.run(command, cwd=tmp_path / "tex", capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "tex" / "report.pdf").stat().st_size > 10_000
