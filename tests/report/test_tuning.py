"""The report of a tuned run: default beside tuned, what each search chose and cost, and curves of its budget."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import nan
from pathlib import Path

import pandas as pd
import pytest
from kinds_for_tests import make_run_of_kinds
from latex_for_tests import compile_latex
from runs_for_tests import make_run
from tuned_runs_for_tests import make_tuned

from milbench.errors import StoreError
from milbench.report import write_report
from milbench.report.contents import Contents, gather
from milbench.report.figures import plain_names, save
from milbench.report.published import PAPER
from milbench.report.sheets import make_tables
from milbench.report.tables import Cell, Row, Table, to_latex
from milbench.report.tuning_drawings import budget_caption, budget_figure, optimism, optimism_figure, tuning_drawings
from milbench.report.tuning_tables import default_and_tuned
from milbench.search_space import Configuration
from milbench.stats.metric import AUROC
from milbench.stats.search import budget_curve
from milbench.store.run import Run, open_run
from milbench.store.run_folder import TUNING, UNTUNED

DRAWS = 100
TASKS = ("TP53", "PIK3CA", "control")
SCORES = {"amil": [0.6, 0.7, nan, 0.65], "m4": [0.8, 0.5, 0.55, 0.7]}
"""AMIL takes configuration 1; M4 keeps its default settings."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "plain", models=("amil", "m4"), folds=(0,), tasks=TASKS)


@pytest.fixture(scope="module")
def tuned(plain: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_tuned(plain, tmp_path_factory.mktemp("runs") / "tuned", SCORES)


@pytest.fixture(scope="module")
def report(tuned: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([tuned], tmp_path_factory.mktemp("reports") / "tuned", draws=DRAWS).parent


def contents_of(run: Run) -> Contents:
    return gather([run], reference="amil", draws=DRAWS, complete_cases=False)[0]


def table_called(name: str, contents: Contents) -> Table:
    return next(table for table in make_tables([contents]) if table.name == name)


def test_a_tuned_run_has_a_table_and_two_figures_more_than_a_plain_one(
    report: Path, plain: Run, tmp_path: Path
) -> None:
    other = write_report([plain], tmp_path / "plain", draws=DRAWS).parent
    more = {path.name for path in report.iterdir()} - {path.name for path in other.iterdir()}
    assert more == {
        *(f"tuning_toy.{suffix}" for suffix in ("tex", "csv", "md")),
        *(f"{stem}_toy.{suffix}" for stem in ("budget", "optimism") for suffix in ("png", "pdf", "tex")),
    }
    for name in ("tasks_toy.md", "spread.csv", "costs_toy.md", "data/pairs.csv"):
        assert (report / name).read_bytes() == (other / name).read_bytes(), name
    assert "uned" not in (other / "index.md").read_text()
    assert 'id="tuning"' not in (other / "index.html").read_text()


def test_the_table_of_tuning_says_what_was_chosen_and_what_it_cost(report: Path) -> None:
    rows = pd.read_csv(report / "tuning_toy.csv").set_index("model")
    assert rows["configuration"].to_dict() == {"amil": 1, "m4": 0}
    assert rows["settings"].to_dict() == {"amil": "lr 0.01", "m4": "the recipe's own"}
    assert rows["validation_default"].to_dict() == pytest.approx({"amil": 0.6, "m4": 0.8})
    assert rows["validation_tuned"].to_dict() == pytest.approx({"amil": 0.7, "m4": 0.8})
    assert rows["n_failed"].to_dict() == {"amil": 1, "m4": 0}
    assert rows["seconds"].to_dict() == {"amil": 3.0 * 9, "m4": 3.0 * 4}
    text = (report / "tuning_toy.md").read_text()
    assert "every model had 4 configurations to choose from" in text
    assert "No test side reached a choice." in text
    assert "differ: failed trainings count 0; a model of one task is trained once per task." in text


def test_test_scores_of_the_table_are_those_of_table_2(report: Path) -> None:
    means = pd.read_csv(report / "table2.csv").set_index(["settings", "model"])["auroc"]
    rows = pd.read_csv(report / "tuning_toy.csv").set_index("model")
    for settings in ("default", "tuned"):
        expected = {model: means[settings, model] for model in ("amil", "m4")}
        assert rows[f"test_{settings}"].to_dict() == pytest.approx(expected)


def test_table_2_stands_default_beside_tuned_with_intervals_in_both(report: Path) -> None:
    head, _, *rows = (report / "table2.md").read_text().splitlines()
    assert head == "| Method | TOY, default | TOY, tuned |"
    assert [row.count("<sub>") for row in rows[:2]] == [2, 2]


def test_default_columns_are_those_of_the_runs_default_settings(plain: Run, tmp_path: Path) -> None:
    run = make_tuned(plain, tmp_path / "tuned", SCORES)
    other = make_run(tmp_path / "other", models=("amil", "m4"), folds=(1,), tasks=TASKS)
    (run.path / UNTUNED).rename(tmp_path / "away")
    other.path.rename(run.path / UNTUNED)
    contents = contents_of(open_run(run.path))
    table, default = (table_called("table2", one) for one in (contents, contents_of(open_run(run.path / UNTUNED))))
    assert [row.cells[0] for row in table.rows] == [row.cells[0] for row in default.rows]
    assert "not of the same tasks, folds and seeds" in table.caption


def test_an_incomplete_grid_of_default_settings_is_refused_by_its_name(plain: Run, tmp_path: Path) -> None:
    run = make_tuned(plain, tmp_path / "tuned", SCORES)
    shutil.rmtree(next((run.path / UNTUNED / "trials" / "toy" / "amil" / "TP53").iterdir()))
    with pytest.raises(
        StoreError, match=r"untuned \(default settings, to compare\): an incomplete grid.*amil lacks 1 of 3"
    ):
        contents_of(run)
    (contents,) = gather([run], reference="amil", draws=DRAWS, complete_cases=True)
    assert "not of the same tasks, folds and seeds" in table_called("table2", contents).caption


def test_only_tuned_cohorts_have_two_columns_and_the_average_has_two(tuned: Run, tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", datasets=("other",), models=("amil", "m4"), folds=(0,), tasks=TASKS)
    (contents,) = gather([tuned, plain], reference="amil", draws=DRAWS, complete_cases=False)
    table = table_called("table2", contents)
    assert table.columns == ("TOY, default", "TOY, tuned", "OTHER", "Average, default", "Average, tuned")
    assert all(len(row.cells) == 5 for row in table.rows)


def test_rows_stand_beside_their_own_method_where_one_side_lacks_a_method() -> None:
    def table(rows: dict[str, str]) -> Table:
        of_methods = [
            (Row(name, (Cell(text),)), Row(PAPER, (Cell(f"paper on {name}"),))) for name, text in rows.items()
        ]
        data = pd.DataFrame({"dataset": ["toy"] * len(rows)})
        return Table("table2", "", "Method", ("Toy",), tuple(row for pair in of_methods for row in pair), data)

    both = default_and_tuned(table({"A": "1", "C": "3"}), table({"B": "20", "C": "30"}), ["toy"], ["toy"])
    assert [(row.title, *(cell.text for cell in row.cells)) for row in both.rows] == [
        ("B", "–", "20"), (PAPER, "–", "paper on B"), ("C", "3", "30"), (PAPER, "paper on C", "paper on C"),
        ("A", "1", "–"), (PAPER, "paper on A", "–"),
    ]  # fmt: skip
    assert both.data["settings"].tolist() == ["default", "default", "tuned", "tuned"]


def test_a_cohort_not_yet_trained_with_default_settings_leaves_their_columns_out(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", datasets=("one", "two"), models=("amil", "m4"), folds=(0,), tasks=("TP53",))
    run = make_tuned(plain, tmp_path / "tuned", {"amil": [0.6, 0.7], "m4": [0.8, 0.5]})
    shutil.rmtree(run.path / UNTUNED / "trials" / "two")
    contents = contents_of(open_run(run.path))
    assert contents.untuned is None
    assert table_called("table2", contents).columns == ("ONE", "TWO", "Average")


def test_without_trainings_with_default_settings_table_2_says_so(plain: Run, tmp_path: Path) -> None:
    contents = contents_of(make_tuned(plain, tmp_path / "tuned", SCORES, compare=False))
    table = table_called("table2", contents)
    assert table.columns == ("TOY",)
    assert "no trainings with default settings to compare" in table.caption
    assert table_called("tuning_toy", contents).rows[0].cells[3].text == "–"


def test_curves_are_of_the_searchs_scores_and_the_same_configurations_test_scores(tuned: Run) -> None:
    search = contents_of(tuned).searches["toy"]
    tests = [search.tests["amil", ""].get(number, nan) for number in range(4)]
    expected, curve = budget_curve(SCORES["amil"], tests), search.curve("amil")
    assert curve is not None
    assert curve.score.tolist() == pytest.approx(expected.score.tolist())
    assert curve.test.tolist() == pytest.approx(expected.test.tolist())
    assert curve.test[-1] == pytest.approx(1 - curve.test[0])  # configuration 1 says the opposite


def test_without_test_sides_there_is_one_panel_and_the_way_to_the_other(plain: Run, tmp_path: Path) -> None:
    contents = contents_of(make_tuned(plain, tmp_path / "tuned", SCORES, test=False))
    drawn = {stem: (figure, caption) for stem, figure, caption in tuning_drawings(contents, "toy")}
    figure, caption = drawn["budget_toy"]
    assert [axes.get_title() for axes in figure.axes] == ["best validation score"]
    assert "add --tune-test" in caption


def test_tasks_that_are_tuned_apart_have_rows_of_their_own_and_no_band(plain: Run, tmp_path: Path) -> None:
    contents = contents_of(make_tuned(plain, tmp_path / "tuned", SCORES, per="task"))
    table = table_called("tuning_toy", contents)
    assert [row.title for row in table.rows] == ["AMIL, TP53", "AMIL, PIK3CA", "AMIL, control", "M4"]
    cells = contents.analysis.cells.set_index(["model", "task"])["score"]
    assert table.data["test_tuned"].iloc[0] == cells["amil", "TP53"]
    figure = budget_figure({"amil": contents.searches["toy"].curve("amil")}, {"amil": "AMIL"}, "toy", AUROC)
    assert not any(axes.collections for axes in figure.axes)
    caption = budget_caption(contents, "toy", {"amil": contents.searches["toy"].curve("amil")})
    assert "mean over tasks" in caption


def test_the_band_of_a_curve_ends_at_scores_that_a_draw_can_have() -> None:
    curve = budget_curve([0.6, 0.98, 0.1, 0.2, 0.3], [0.5, 1.0, 0.4, 0.4, 0.4])
    assert (curve.score + curve.score_sd).max() > 0.98
    assert (curve.test + curve.test_sd).max() > 1
    figure = budget_figure({"amil": curve}, {"amil": "AMIL"}, "toy", AUROC)
    bands = [axes.collections[0].get_paths()[0].vertices[:, 1] for axes in figure.axes]
    assert [band.max() for band in bands] == pytest.approx([0.98, 1.0])
    assert bands[0].min() == pytest.approx(0.6)


def test_the_band_of_a_search_whose_default_failed_is_still_drawn() -> None:
    curve = budget_curve([nan, 0.7, 0.8, 0.9])
    figure = budget_figure({"amil": curve}, {"amil": "AMIL"}, "toy", AUROC)
    assert figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(0.9)


@pytest.mark.parametrize("n", [2, 8, 12, 24, 100])
def test_the_default_alone_has_its_tick(n: int) -> None:
    curve = budget_curve([0.6 + number / 100 for number in range(n)])
    (panel,) = budget_figure({"amil": curve}, {"amil": "AMIL"}, "toy", AUROC).axes
    ticks = panel.get_xticks().tolist()
    assert ticks[0] == 1
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= n


def test_validation_and_test_share_an_axis_if_both_are_of_one_metric() -> None:
    curve = budget_curve([0.9, 0.98], [0.6, 0.5])
    for one_scale in (True, False):
        figure = budget_figure({"amil": curve}, {"amil": "AMIL"}, "toy", AUROC, one_scale=one_scale)
        left, right = (axes.get_ylim() for axes in figure.axes)
        assert (left == right) is one_scale


def test_the_legend_of_validation_and_test_says_what_is_hollow() -> None:
    points = pd.DataFrame(
        [("amil", "AMIL", "tuned", 0.8, 0.7), ("amil", "AMIL", "default", 0.7, 0.7)],
        columns=["model", "title", "settings", "val", "test"],
    )
    for rows, expected in ((points, ["AMIL", "default settings"]), (points[:1], ["AMIL"])):
        figure = optimism_figure(rows, "toy", AUROC)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == expected


def test_a_search_by_halving_has_no_curve_and_the_table_says_why(plain: Run, tmp_path: Path) -> None:
    scores = {"amil": [0.6, 0.7], "m4": [0.8, 0.5]}
    run = make_tuned(plain, tmp_path / "tuned", scores, short={"amil": [0.5] * 4, "m4": [0.5] * 4})
    contents = contents_of(run)
    assert [stem for stem, _, _ in tuning_drawings(contents, "toy")] == ["optimism_toy"]
    assert "there is no budget curve" in table_called("tuning_toy", contents).caption


def test_validation_and_test_of_the_figure_are_of_the_same_tasks_and_trainings(tuned: Run) -> None:
    contents = contents_of(tuned)
    points = optimism(contents, "toy").set_index(["model", "settings"])
    means = contents.analysis.cohorts.set_index("model")["score"]
    assert points.loc[("amil", "tuned"), "test"] == pytest.approx(means["amil"])
    # the stored validation and test rows are the same numbers
    assert points["val"].tolist() == pytest.approx(points["test"].tolist())


def test_each_kind_has_its_own_metric_and_all_share_the_mixed_validation_score(tmp_path: Path) -> None:
    plain = make_run_of_kinds(tmp_path / "plain", folds=(0,), tasks=("TP53", "HRD"))
    run = make_tuned(plain, tmp_path / "tuned", {"amil": [0.6, 0.7], "m4": [0.8, 0.5]})
    every = gather([run], reference="amil", draws=DRAWS, complete_cases=False)
    tables = {table.name: table for table in make_tables(every)}
    binary, regression = (tables[name] for name in ("tuning_toy", "tuning_toy_regression"))
    validation = ["validation_default", "validation_tuned"]
    assert binary.data[validation].equals(regression.data[validation])
    assert "mean AUROC over signal tasks, from" in binary.caption
    assert "mean Pearson r over signal tasks of kind regression" in regression.caption
    assert all("over tasks of all kinds" in table.caption for table in (binary, regression))
    stems = [stem for one in every for stem, _, _ in tuning_drawings(one, "toy")]
    assert stems == ["budget_toy", "optimism_toy", "budget_toy_regression", "optimism_toy_regression"]


def test_a_larger_search_that_goes_on_changes_nothing_of_what_was_chosen(plain: Run, tmp_path: Path) -> None:
    run = make_tuned(plain, tmp_path / "tuned", SCORES)
    file = run.path / TUNING / "chosen" / "toy.yaml"
    file.write_text(file.read_text().replace("configurations: 4", "configurations: 2"))
    search = contents_of(open_run(run.path)).searches["toy"]
    assert search.curve("m4").score.tolist() == pytest.approx([0.8, 0.8])
    assert search.costs["amil", ""]["n_failed"] == 0


def test_a_search_that_lacks_trainings_says_so_and_what_its_scores_leave_out(plain: Run, tmp_path: Path) -> None:
    run = make_tuned(plain, tmp_path / "tuned", SCORES, test=False)
    whole = table_called("tuning_toy", contents_of(run)).caption
    assert "as a mean over all trainings without those of control tasks" in whole
    assert "not whole" not in whole
    shutil.rmtree(run.path / TUNING / "trials" / "toy" / "amil" / "TP53")
    caption = table_called("tuning_toy", contents_of(open_run(run.path))).caption
    assert (
        f"3 trainings of the search are not in {run.path / TUNING}, so its scores and costs are not whole." in caption
    )


def test_a_search_is_not_reported_as_a_run(tuned: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds the search of a tuned run.*milbench report .*tuned$"):
        write_report([open_run(tuned.path / TUNING)], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_settings_of_an_earlier_search_are_named_in_captions_settings_and_page(plain: Run, tmp_path: Path) -> None:
    shutil.copytree(plain.path, tmp_path / "follows")
    file = tmp_path / "follows" / "datasets.json"
    told = {"configurations": 24, "command": "milbench tune --cohort <toy>", "made": "2026-11-28, milbench 0.1.0"}
    facts = json.loads(file.read_text())
    facts["toy"]["tuned"] = told
    file.write_text(json.dumps(facts))
    out = write_report([open_run(tmp_path / "follows")], tmp_path / "report", draws=DRAWS).parent
    words = "tuned, 24 configurations per model"
    assert (
        f"TOY: settings {words}, by an earlier search (2026-11-28, milbench 0.1.0)." in (out / "table2.md").read_text()
    )
    assert f"| settings of models | {words}, by an earlier search" in (out / "settings.md").read_text()
    page = (out / "index.html").read_text()
    assert page.count(words) >= 2  # beside the summary and in the provenance
    facts["toy"]["tuned"]["models"] = ["amil"]
    file.write_text(json.dumps(facts))
    out = write_report([open_run(tmp_path / "follows")], tmp_path / "in part", draws=DRAWS).parent
    told = (out / "table2.md").read_text()
    assert "0.1.0), without " in told
    assert "which have the settings for all: do not rank these by the others." in told
    assert "without AMIL" not in told
    assert "milbench tune --cohort &lt;toy&gt;" in page


def test_the_page_shows_tuning_before_the_models(report: Path) -> None:
    page = (report / "index.html").read_text()
    start, end = page.index('<section id="tuning"'), page.index('<section id="models"')
    assert start < end
    assert page[start:end].count("<table>") == 2
    assert page[start:end].count("<figure>") == 2
    assert '<a href="#tuning">Tuning</a>' in page


def test_the_settings_table_says_how_many_configurations(report: Path) -> None:
    assert "| settings of models | tuned, 4 configurations per model |" in (report / "settings.md").read_text()


def test_long_settings_stand_in_lines_that_latex_takes(tuned: Run, report: Path, tmp_path: Path) -> None:
    contents = contents_of(tuned)
    search = contents.searches["toy"]
    settings = {"weight_decay": 0.000941, "hidden": 128, "dropout_of_features": 0.25, "attention": 64, "experts": 6}
    chosen = {**search.chosen, ("m4", ""): Configuration(3, settings)}
    table = table_called("tuning_toy", replace(contents, searches={"toy": replace(search, chosen=chosen)}))
    lines = table.rows[1].cells[0].below.splitlines()
    assert " ".join(lines) == str(Configuration(3, settings))
    assert [line[-1] for line in lines[:-1]] == [","] * (len(lines) - 1)
    assert max(map(len, lines)) <= 45 < len(str(Configuration(3, settings)))
    shutil.copytree(report, tmp_path / "report")
    (tmp_path / "report" / "tuning_toy.tex").write_text(to_latex(table))
    if shutil.which("pdflatex"):
        compile_latex(tmp_path / "report")


def test_the_same_stores_give_the_same_bytes(tuned: Run, report: Path, tmp_path: Path) -> None:
    contents = contents_of(open_run(tuned.path))
    assert to_latex(table_called("tuning_toy", contents)) == (report / "tuning_toy.tex").read_text()
    with plain_names():
        for stem, figure, _ in tuning_drawings(contents, "toy"):
            for path in save(figure, tmp_path / stem):
                assert path.read_bytes() == (report / path.name).read_bytes(), path.name
