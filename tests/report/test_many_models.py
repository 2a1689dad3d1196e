"""A report of twenty models: nothing is cut off, and no panel is a tangle."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from milbench.report.comparisons import MOST_IN_WORDS, comparison_matrix, critical_difference, matrix_note
from milbench.report.curves import roc_figure, training_figure
from milbench.report.figures import FEW_TOGETHER, box, radar
from milbench.report.looks import LOOKS, MOST_TOGETHER
from milbench.report.panel_grid import Room
from milbench.report.tables import PAGE, Cell, Row, Table, to_latex
from milbench.report.told_apart import ToldApart

MODELS = list(LOOKS)[:20]
TITLES = {model: f"{model} with a long title"[:18] for model in MODELS}
"""As long as "Shared bottom+AMIL"."""
TASKS = ("TP53", "KRAS", "EGFR", "PTEN", "IDH1")


def scores(models: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(m, TITLES[m], task, fold, 42, rng.uniform(0.5, 0.9)) for m, task, fold in product(models, TASKS, (0, 1))]
    return pd.DataFrame(rows, columns=["model", "title", "task", "fold", "seed", "score"]).assign(dataset="toy")


def assert_nothing_is_cut_off(figure: Any) -> None:
    """Every text and legend lies inside the figure, to a pixel's tenth."""
    figure.canvas.draw()
    renderer, width, height = figure.canvas.get_renderer(), *figure.bbox.size
    texts = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    for part in [*figure.legends, *figure.texts, *(text for text in texts if text.get_text())]:
        place = part.get_window_extent(renderer)
        assert place.x0 > -1, part
        assert place.y0 > -1, part
        assert place.x1 < width + 1, part
        assert place.y1 < height + 1, part


def test_many_polygons_are_dealt_out_to_circles_of_one_scale_with_the_highlighted_model_in_all() -> None:
    figure = radar(scores(MODELS), "title", highlight="m4")
    assert_nothing_is_cut_off(figure)
    names = [[text.get_text().rpartition("  ")[0] for text in legend.get_texts()] for legend in figure.legends]
    assert len(names) == len(figure.axes) == 3
    assert max(map(len, names)) <= FEW_TOGETHER + 1
    assert all(TITLES["m4"] in group for group in names)
    others = [name for group in names for name in group if name != TITLES["m4"]]
    assert sorted(others) == sorted(title for model, title in TITLES.items() if model != "m4")
    assert len({axes.get_ylim() for axes in figure.axes}) == 1


def test_as_many_polygons_as_the_study_has_stay_in_one_circle() -> None:
    assert len(radar(scores(MODELS[:MOST_TOGETHER]), "title").axes) == 1


def test_the_box_plot_grows_with_the_models() -> None:
    few, many = box(scores(MODELS[:9]), "title"), box(scores(MODELS), "title")
    assert_nothing_is_cut_off(many)
    assert few.get_figwidth() < 9
    assert many.get_figwidth() > 10


@pytest.mark.parametrize("n_tasks", [1, 5])
def test_roc_curves_of_many_models_have_no_bands_and_a_whole_legend(n_tasks: int) -> None:
    curves = {(task, model): np.linspace([0, 0], [1, 1], 101).T for task in TASKS for model in MODELS}
    many = roc_figure(curves, TASKS[:n_tasks], TITLES, "title")
    assert_nothing_is_cut_off(many)
    assert not many.axes[0].collections
    few = {model: TITLES[model] for model in MODELS[:MOST_TOGETHER]}
    bands = roc_figure(curves, TASKS[:n_tasks], few, "title").axes[0].collections[0]
    assert len(bands.get_paths()) == MOST_TOGETHER


def test_training_of_many_models_has_a_whole_legend() -> None:
    rows = [(m, fold, 42, epoch, 0.5, 0.6, 0.7) for m, fold, epoch in product(MODELS, (0, 1), (1, 2, 3))]
    columns = ["model", "fold", "seed", "epoch", "train_loss", "val_loss", "val_auroc"]
    figure = training_figure(pd.DataFrame(rows, columns=columns), TITLES, "title")
    assert_nothing_is_cut_off(figure)
    assert not any(axes.collections for axes in figure.axes)


class Ranks:
    """What rank figures read, of models that differ by a hundredth each."""

    def __init__(self, models: list[str]) -> None:
        n = len(models)
        self.mean_ranks = pd.Series(np.arange(1.0, n + 1), models)
        difference = 0.01 * (np.arange(n) - np.arange(n)[:, None])
        self.mean_difference = pd.DataFrame(difference, models, models)
        self.wins = self.ties = self.losses = pd.DataFrame(1, models, models)
        self.n_cells, self.friedman_p = 9, 0.01


def verdict(models: list[str]) -> ToldApart:
    return ToldApart(pd.DataFrame(0.5, models, models), "", can_tell=True)


def test_a_matrix_of_many_models_fits_a_page_and_holds_the_differences() -> None:
    figure = comparison_matrix(Ranks(MODELS), TITLES, verdict(MODELS))
    assert_nothing_is_cut_off(figure)
    assert figure.get_figwidth() < 13
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 20 * 19
    assert "+.010" in texts
    assert "wins" not in matrix_note(Ranks(MODELS), verdict(MODELS))
    few = MODELS[:MOST_IN_WORDS]
    assert "+0.010\n1/1/1\np=.500" in [
        text.get_text() for text in comparison_matrix(Ranks(few), TITLES, verdict(few)).axes[0].texts
    ]


def test_names_of_many_ranks_lie_inside_the_figure() -> None:
    assert_nothing_is_cut_off(critical_difference(Ranks(MODELS), TITLES, verdict(MODELS)))


def test_room_beside_panels_fits_the_legend() -> None:
    room = Room(right=1.7)
    assert room.beside(["AMIL"]).right == 1.7
    assert room.beside(["a title of twenty-six letters"]).right > 2.5
    assert room.beside(list(TITLES)).least_height > 3.6


def table(n_rows: int, **more: Any) -> Table:
    rows = tuple(Row(f"model {n}", (Cell("0.5", "0.4–0.6"),), **more) for n in range(n_rows))
    return Table("t", "Caption.", "Method", ("A",), rows, pd.DataFrame())


def test_a_table_that_is_higher_than_a_page_comes_in_parts_of_about_equal_height() -> None:
    assert to_latex(table(9)).count(r"\begin{table}") == 1
    parts = to_latex(table(40)).split(r"\begin{table}")[1:]
    counts = [part.count("model ") for part in parts]
    assert sum(counts) == 40
    assert max(counts) * 23 < PAGE
    assert max(counts) - min(counts) <= 1
    assert r"\label{tab:t-1}" in parts[0]
    assert "Part 2 of" in parts[1]


def test_a_row_that_continues_another_stands_on_its_page() -> None:
    rows = [
        row for n in range(25) for row in (Row(f"m{n}", (Cell(),)), Row("paper", (Cell("0.5", "x"),), continues=True))
    ]
    text = to_latex(Table("t", "Caption.", "Method", ("A",), tuple(rows), pd.DataFrame()))
    for part in text.split(r"\midrule")[1:]:
        assert part.strip().startswith("m")


def test_the_table_that_captions_refer_to_keeps_its_label() -> None:
    rows = tuple(Row(f"s{n}", (Cell("x", "y"),)) for n in range(60))
    text = to_latex(Table("settings", "Caption.", "Setting", ("A",), rows, pd.DataFrame()))
    assert r"\label{tab:settings}" in text
    assert r"\label{tab:settings-2}" in text
