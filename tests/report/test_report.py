"""The report: the right numbers, in LaTeX that compiles and pictures that are the same every time."""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from latex_for_tests import compile_latex
from runs_for_tests import MODELS, TASKS, make_run

from milbench.errors import StoreError, UsageError
from milbench.report import write_report
from milbench.report.figures import box, polygon_area, radar
from milbench.report.looks import styles
from milbench.report.published import PAPERS_COHORTS, beside_ours
from milbench.report.score_tables import leads, model_table
from milbench.report.tables import to_latex
from milbench.stats.scores import coverage, score_table, summary
from milbench.store.run import Run

DRAWS = 200
"""Enough to test what is done with the draws; what they are worth is tested in tests/stats."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "two", datasets=("tcga-gbmlgg", "tcga-luad"))


@pytest.fixture(scope="module")
def report(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_on(run, tmp_path_factory.mktemp("reports") / "two")


def report_on(run: Run, out: Path, **settings: Any) -> Path:
    return write_report([run], out, draws=DRAWS, **settings).parent


def test_every_promised_file_is_there(report: Path) -> None:
    names = {path.name for path in report.iterdir()}
    cohorts = ("tcga-gbmlgg", "tcga-luad")
    stems = (
        "table2",
        "table3",
        "spread",
        "settings",
        *(f"{kind}_{name}" for kind in ("tasks", "against", "operating", "costs") for name in cohorts),
    )
    drawings = ("critical_difference", "comparison_matrix", "gain",
                *(f"{kind}_{name}" for kind in ("radar", "box", "pareto_all_tasks_seconds", "roc", "training") for name in cohorts))  # fmt: skip
    tables = {f"{stem}.{suffix}" for stem in stems for suffix in ("tex", "csv", "md")}
    figures = {f"{stem}.{suffix}" for stem in drawings for suffix in ("png", "pdf", "tex")}
    assert names == tables | figures | {
        "report.tex",
        "index.md",
        "index.html",
        "plotly.min.js",
        "data",
        "published.csv",
    }


def test_the_same_stores_give_the_same_bytes(run: Run, report: Path, tmp_path: Path) -> None:
    report_on(Run(run.path), tmp_path / "again")
    for path in (path.relative_to(report) for path in report.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path).read_bytes() == (report / path).read_bytes(), path


def test_the_csv_holds_the_summary_in_full_precision(run: Run, report: Path) -> None:
    table = pd.read_csv(report / "table2.csv").set_index(["dataset", "model"])["auroc"]
    expected = summary(score_table([run]))
    for row in expected.itertuples():
        assert table[row.dataset, row.model] == pytest.approx(row.mean, abs=1e-12)
    assert table["all", "m4"] == pytest.approx(expected[expected["model"] == "m4"]["mean"].mean())


def test_ties_at_three_decimals_share_their_mark() -> None:
    cohorts = frame([("a", 0.9), ("b", 0.8), ("c", 0.9004), ("d", 0.1)])
    table = model_table("t", "caption", cohorts, cohorts.iloc[:0], {"toy": "Toy"}, {}, no_baselines())
    text = to_latex(table)
    assert text.count(r"\textbf{0.900}") == 2
    assert r"\underline{0.800}" in text
    assert text.count(r"\underline") == 1


def frame(values: list[tuple[str, float]], dataset: str = "toy") -> pd.DataFrame:
    rows = [{"dataset": dataset, "model": name, "title": name, "score": value, "sd": 0.01, "low": value - 0.05,
             "high": value + 0.05, "low_fixed": value - 0.04, "high_fixed": value + 0.04, "n_missing": 0, "n_cells": 9} for name, value in values]  # fmt: skip
    return pd.DataFrame(rows)


def no_baselines() -> pd.DataFrame:
    return pd.DataFrame({"dataset": [], "task": [], "name": [], "score": []})


@pytest.mark.parametrize(("p_holm", "dagger"), [(0.049, True), (0.051, False)])
def test_the_dagger_stands_where_the_lead_over_the_runner_up_survives(p_holm: float, dagger: bool) -> None:
    cohorts = frame([("a", 0.9), ("b", 0.8), ("c", 0.7)])
    pairs = pd.DataFrame([("toy", "a", "b", p_holm), ("toy", "a", "c", 0.001), ("toy", "b", "c", 0.001)],
                         columns=["dataset", "model_a", "model_b", "p_holm"])  # fmt: skip
    found = leads(cohorts, cohorts.iloc[:0], pairs)
    assert found["toy"] is dagger
    table = model_table("t", "c", cohorts, cohorts.iloc[:0], {"toy": "Toy"}, found, no_baselines())
    assert [row.cells[0].text for row in table.rows] == ["0.900" + ("†" if dagger else ""), "0.800", "0.700"]


def test_an_incomplete_grid_is_refused_with_the_models_and_the_way_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", datasets=("one", "other"), models=("amil", "m4"), leave_out=("one/m4/all/fold2",))
    with pytest.raises(StoreError, match=r"incomplete.*m4.*--complete-cases"):
        write_report([run], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_complete_cases_leave_a_task_that_not_all_finished_out_of_every_models_mean(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), leave_out=("toy/amil/TP53/fold0",))
    out = report_on(run, tmp_path / "report", complete_cases=True)
    text = (out / "table2.md").read_text()
    assert "Left out of means, since not all models finished them: toy: TP53." in text
    scores = score_table([run])
    rest = scores[scores["task"].isin(["PIK3CA", "A_B"]) & (scores["model"] == "m4")]
    assert f"{rest['score'].mean():.3f}" in next(line for line in text.splitlines() if line.startswith("| M4"))
    assert "| AMIL | incomplete (2 of 3) |" in (out / "tasks_toy.md").read_text()


def test_a_task_that_no_fold_can_score_is_counted_in_the_caption_and_leaves_the_figures_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", one_class=("A_B",))
    text = (report_on(run, tmp_path / "report") / "table2.md").read_text()
    assert "TOY: 3 (task, fold) pairs have no AUROC and are left out of means (A_B in folds 0, 1, 2)." in text
    assert "incomplete" not in text
    scores = score_table([run])
    legend = labels(radar(scores.dropna(subset=["score"]), "toy"))
    assert len(legend) == len(MODELS)
    assert not any("incomplete" in text for text in legend)


def test_the_radar_names_a_model_that_it_cannot_draw(tmp_path: Path) -> None:
    scores = score_table([make_run(tmp_path / "toy", leave_out=("toy/m4/all/fold2",))])
    assert coverage(scores)["m4"].n_missing == len(TASKS)
    assert labels(radar(scores, "toy"))[-1] == "M4  incomplete, not drawn"


def labels(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_published_numbers_stand_beside_ours_and_name_their_source(report: Path) -> None:
    table = pd.read_csv(report / "published.csv")
    assert table["source"].str.contains("arXiv:2407.17267").all()
    m4 = table[(table["cohort"] == "tcga-gbmlgg") & (table["model"] == "m4")]
    assert m4["table"].tolist() == [2, 3]
    row = m4.iloc[0]
    assert row["published"] == 0.756
    assert row["difference"] == pytest.approx(row["ours"] - 0.756)
    assert row["inside"] == (row["low"] <= 0.756 <= row["high"])
    text = (report / "table2.md").read_text()
    assert "not like for like" in text
    assert f"0.756<br><sub>{row['difference']:+.3f} (" in text


@pytest.mark.parametrize(
    ("cohorts", "expected"), [(PAPERS_COHORTS, [0.636, 0.636]), ({"tcga-gbmlgg", "tcga-luad"}, [])]
)
def test_the_papers_average_stands_only_beside_an_average_over_its_five_cohorts(
    cohorts: set[str], expected: list[float]
) -> None:
    ours = pd.concat([frame([("amil", 0.6)], name) for name in sorted(cohorts)])
    overall = frame([("amil", 0.6)]).drop(columns=["dataset", "n_missing", "n_cells"])
    both = beside_ours(ours, overall)
    assert both.loc[both["cohort"] == "average", "published"].tolist() == expected


def test_nine_models_look_different_wherever_m4_stands() -> None:
    names = ["m4", *"abcdefgh"]
    looks = styles(names).values()
    assert len({(str(look["color"]), str(look["linestyle"]), look["marker"]) for look in looks}) == 9


def test_one_table_says_how_all_numbers_came_about_and_the_others_refer_to_it(report: Path) -> None:
    table = pd.read_csv(report / "settings.csv", dtype=str)
    settings = table[table["dataset"] == "tcga-gbmlgg"].set_index("setting")["value"].to_dict()
    expected = {"protocol": "m4", "folds": "0, 1, 2", "seeds": "42", "epochs": "2", "hidden": "64", "lr": "0.01",
                "features scaled by": "standard", "left out of means": "control"}  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert settings["commit"].startswith("0123abc")
    spread = (report / "spread.tex").read_text()
    assert "not a confidence interval" in spread
    for path in report.glob("*.tex"):
        text = path.read_text()
        assert ("Protocol m4" in text) is False
        if r"\begin{table}" in text and path.name != "settings.tex":
            assert r"Settings: Table~\ref{tab:settings}." in text, path.name


def test_a_caption_keeps_clear_of_the_rule_below_it(report: Path) -> None:
    lines = (report / "table2.tex").read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(r"\caption"))
    assert r"\belowcaptionskip}{6pt}" in lines[place - 1]


def test_figures_are_floats_with_caption_and_label(report: Path) -> None:
    for path in report.glob("*.pdf"):
        text = path.with_suffix(".tex").read_text()
        assert rf"\includegraphics[width=\linewidth,height=0.75\textheight,keepaspectratio]{{{path.name}}}" in text
        assert rf"\label{{fig:{path.stem}}}" in text
        assert len(text.split(r"\caption{")[1]) > 40
        assert rf"\input{{{path.stem}}}" in (report / "report.tex").read_text()


def test_a_control_task_has_no_best_model(report: Path) -> None:
    lines = (report / "tasks_tcga-luad.md").read_text().splitlines()
    place = lines[0].split(" | ").index("control |") if "control |" in lines[0].split(" | ") else -2
    rows = [line.split(" | ")[place] for line in lines[2:] if line.startswith("|")]
    assert len(rows) > len(MODELS)
    assert not any("**" in cell or "<u>" in cell for cell in rows)
    assert any("**" in line for line in lines)


def test_the_radar_is_over_the_tasks_that_count_and_its_areas_are_those_of_the_page(report: Path, run: Run) -> None:
    scores = score_table([run])
    signal = scores[(scores["dataset"] == "tcga-luad") & ~scores["is_control"].astype(bool)].dropna(subset=["score"])
    figure = radar(signal, "LUAD")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        task for task in TASKS if task != "control"
    ]
    text = (report / "index.html").read_text()
    core = json.loads(text.split('id="data-core">')[1].split("</script>")[0])
    cells = pd.DataFrame(core["cells"])
    mine = cells[(cells["dataset"] == "tcga-luad") & ~cells["is_control"].astype(bool)]
    areas = [
        f"{rows['title'].iloc[0]}  {polygon_area(rows['auroc'].to_numpy()):.3f}"
        for _, rows in mine.groupby("model", sort=False)
    ]
    assert labels(figure) == areas


def test_a_box_has_no_whiskers_and_few_scores_have_no_box(run: Run) -> None:
    scores = score_table([run]).dropna(subset=["score"])
    axes = box(scores, "all").axes[0]
    assert len(axes.patches) == len(MODELS)
    few = box(scores[scores["task"] == "TP53"].groupby("model").head(3), "few").axes[0]
    assert len(few.patches) == 0
    assert len(few.collections) == len(MODELS), "dots"
    for line in axes.lines:
        assert line.get_linewidth() == 0 or np.ptp(line.get_ydata()) == 0, "a whisker stands upright"


def test_the_highlighted_model_must_be_there(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model to highlight 'm5'"):
        write_report([run], tmp_path / "report", draws=DRAWS, highlight="m5")


def test_operating_points_are_means_of_what_thresholds_of_validation_give(report: Path) -> None:
    table = pd.read_csv(report / "operating_tcga-luad.csv").set_index("model")
    scores = pd.read_csv(report / "data" / "scores.csv")
    mine = scores[
        (scores["dataset"] == "tcga-luad")
        & (scores["level"] == "slide")
        & ~scores["is_control"]
        & (scores["model"] == "m4")
    ]
    expected = mine.groupby(["fold", "seed"])["sensitivity_at_specificity_90"].mean().mean()
    assert table.loc["m4", "sensitivity_at_specificity_90_mean"] == pytest.approx(expected)


def test_the_polygons_area_is_that_of_its_corners() -> None:
    values = np.array([0.9, 0.6, 0.7, 0.8, 0.5])
    angles = np.arange(5) * 2 * np.pi / 5

    def shoelace(radius: np.ndarray) -> float:
        x, y = radius * np.cos(angles), radius * np.sin(angles)
        return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2

    assert polygon_area(values) == pytest.approx(shoelace(values) / shoelace(np.ones(5)))
    assert np.isnan(polygon_area(np.array([0.5, 0.6])))


def test_the_order_of_columns_is_the_runs() -> None:
    cohorts = pd.concat([frame([("m4", 0.5)], name) for name in ("b", "a")])
    overall = frame([("m4", 0.5)])
    table = model_table("t", "c", cohorts, overall, {"b": "B", "a": "A"}, {}, no_baselines())
    assert table.columns == ("B", "A", "Average")


def test_a_dataset_in_two_runs_and_a_run_without_trials_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="hold 'tcga-gbmlgg'"):
        write_report([run, Run(run.path)], tmp_path / "out")
    empty = make_run(tmp_path / "empty", models=())
    with pytest.raises(StoreError, match="no finished trial"):
        write_report([empty], tmp_path / "out")


def test_a_reference_that_no_model_is_called_is_refused_and_one_that_did_not_run_leaves_comparisons_out(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"unknown reference model 'amli'. Did you mean 'amil'"):
        write_report([run], tmp_path / "out", reference="amli")
    only = make_run(tmp_path / "only", models=("dsmil", "m4"), folds=(0,))
    facts = json.loads((only.path / "datasets.json").read_text())
    facts["toy"]["models"] = list(MODELS)
    (only.path / "datasets.json").write_text(json.dumps(facts))
    out = report_on(Run(only.path), tmp_path / "report")
    assert not (out / "against_toy.csv").exists()


def test_two_runs_with_other_splits_are_refused_with_the_reason(run: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", datasets=("tcga-luad",), models=("amil",))
    facts = json.loads((other.path / "datasets.json").read_text())
    facts["tcga-luad"]["split_sha256"] = "0" * 64
    (other.path / "datasets.json").write_text(json.dumps(facts))
    with pytest.raises(StoreError, match="hold 'tcga-luad' with other splits"):
        write_report([run, Run(other.path)], tmp_path / "out")


@pytest.mark.parametrize("what", [{"models": ("amil",)}, {"folds": (0,)}, {"models": ("m4",), "folds": (0,)}])
def test_one_model_and_one_fold_make_a_report(tmp_path: Path, what: dict[str, Any]) -> None:
    out = report_on(make_run(tmp_path / "toy", **what), tmp_path / "report")
    assert "0." in (out / "table2.md").read_text()
    assert (out / "index.html").stat().st_size > 10_000


NASTY = ("A_B & 5%", "x^2 #1 ~ \\y $", "肺腺癌", "μ-opioid", "<script>alert(1)</script>", "a|b")


def test_nasty_task_names_reach_the_page_and_the_tables_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("amil", "m4"), folds=(0, 1), tasks=NASTY)
    out = report_on(run, tmp_path / "report")
    assert "<script>alert(1)" not in (out / "index.html").read_text()
    assert "&lt;script&gt;" in (out / "tasks_toy.md").read_text()
    assert r"A\_B \& 5\%" in (out / "tasks_toy.tex").read_text()
    if shutil.which("pdflatex"):
        compile_latex(out)


def test_a_hundred_tasks_make_tables_in_parts_and_no_tangled_radar(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",), folds=(0,), tasks=tuple(f"g{n}" for n in range(100)))
    out = report_on(run, tmp_path / "report")
    assert (out / "tasks_toy.tex").read_text().count(r"\begin{tabular}") == 10
    assert not (out / "radar_toy.png").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_compiles(report: Path, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "tex")
    assert compile_latex(tmp_path / "tex").stat().st_size > 10_000


def test_a_report_overwrites_reports_and_no_page_of_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"holds an index\.html of something else"):
        report_on(run, tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    with pytest.raises(UsageError, match=r"holds a run\. Name another folder"):
        report_on(run, run.path)


@pytest.mark.slow
def test_the_users_settings_of_matplotlib_change_no_figure(run: Run, report: Path, tmp_path: Path) -> None:
    """Some would ask for LaTeX, or draw 100,000 dots per inch."""
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40, "savefig.bbox": "tight", "axes.grid": True}):
        again = report_on(run, tmp_path / "again")
    for figure in sorted(report.glob("*.png")):
        assert figure.read_bytes() == (again / figure.name).read_bytes(), figure.name
