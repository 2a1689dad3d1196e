"""Figures of an external evaluation: both test sides beside each other, and what each shows of which answers."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from external_for_tests import cohort_of_kinds, copy_of_run_of_kinds
from matplotlib.figure import Figure

from milbench.cohorts.cohort import folder_cohort
from milbench.endpoints.endpoint import KINDS, Kind
from milbench.external.analysis import compared, own_trials
from milbench.external.drawings import EXTERNAL, INTERNAL, Sides, draw_sides, drawings
from milbench.external.evaluate import External, checked, scored
from milbench.external.tables import write_tables
from milbench.external.trained import trained
from milbench.report import calibration, curves
from milbench.store.run import open_run

FIGURES = {
    "binary": ["external_roc", "external_calibration"],
    "multiclass": [f"external_{name}_multiclass" for name in ("roc", "confusion", "calibration")],
    "ordinal": [f"external_{name}_ordinal" for name in ("confusion", "calibration")],
    "regression": [f"external_{name}_regression" for name in ("predicted", "calibration")],
    "survival": [f"external_{name}_survival" for name in ("kaplan_meier", "calibration")],
}


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> External:
    cohort = cohort_of_kinds(tmp_path_factory.mktemp("drawn") / "drawn", "drawn", first=1000)
    return checked(trained(open_run(copy_of_run_of_kinds(tmp_path_factory))), folder_cohort(cohort))


@pytest.fixture(scope="module")
def sides(external: External) -> dict[Kind, Sides]:
    trials = scored(external, "cpu", lambda slides, *_: slides).trials
    found = compared(external, trials, reference="tiny", draws=100, complete_cases=False)
    both = {INTERNAL: own_trials(external), EXTERNAL: trials}
    return {kind: Sides(kind, each, both, "own and drawn") for kind, each in found.items()}


def figures_of(sides: dict[Kind, Sides], kind: Kind) -> dict[str, Figure]:
    return {stem: figure for stem, figure, _ in drawings(sides[kind])}


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_every_kind_has_its_figures(sides: dict[Kind, Sides]) -> None:
    assert {kind: list(figures_of(sides, kind)) for kind in KINDS} == FIGURES


def test_a_task_has_one_panel_per_side_with_a_line_per_model(sides: dict[Kind, Sides]) -> None:
    for figure in figures_of(sides, "binary").values():
        assert titles(figure) == ["TP53, internal", "TP53, external"]
        assert all({"Tiny", "Tiny multi"} <= set(axes.get_legend_handles_labels()[1]) for axes in figure.axes)


def test_classes_are_shown_against_the_rest(sides: dict[Kind, Sides]) -> None:
    figures = figures_of(sides, "multiclass")
    pairs = [f"subtype: {name}, {side}" for name in "abc" for side in ("internal", "external")]
    assert titles(figures["external_roc_multiclass"]) == pairs
    assert titles(figures["external_calibration_multiclass"]) == pairs
    assert figures["external_calibration_multiclass"].axes[0].get_ylabel() == "share of the class"


def test_roc_curves_are_those_of_each_side_s_slides(sides: dict[Kind, Sides]) -> None:
    inner, outer = figures_of(sides, "binary")["external_roc"].axes
    for axes, side in ((inner, INTERNAL), (outer, EXTERNAL)):
        lines = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
        expected = curves.roc_curves(sides["binary"].trials[side])["TP53", "tiny"].mean(axis=0)
        np.testing.assert_allclose(lines["Tiny"], expected)


def test_calibration_counts_every_slide_once_per_training(sides: dict[Kind, Sides], external: External) -> None:
    (axes,) = [
        axes for axes in figures_of(sides, "binary")["external_calibration"].axes if "external" in axes.get_title()
    ]
    dots = axes.collections[0].get_sizes()  # of tiny, which has two trainings
    assert (((dots - 8) / 6) ** 2).sum() == pytest.approx(2 * len(external.slides))


def test_both_sides_of_a_score_have_the_same_ends_and_say_the_score_of_the_tables(sides: dict[Kind, Sides]) -> None:
    for figure in figures_of(sides, "regression").values():
        assert len({axes.get_xlim() for axes in figure.axes}) == 1
    cells = sides["regression"].both.external.cells.set_index("model")
    heads = titles(figures_of(sides, "regression")["external_predicted_regression"])
    assert heads[1] == f"HRD, Tiny\nexternal: Pearson r {cells.loc['tiny', 'score']:.3f}"


def test_survival_is_cut_once_per_side_on_the_same_months(sides: dict[Kind, Sides], external: External) -> None:
    figure = figures_of(sides, "survival")["external_kaplan_meier_survival"]
    assert [title.splitlines()[0] for title in titles(figure)][:2] == ["OS, Tiny, internal", "OS, Tiny, external"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    words = titles(figure)[1].replace(",", "").split()
    low, high = (int(words[words.index(group) + 1]) for group in ("low", "high"))
    assert low + high == external.slides["patient_id"].nunique()


def test_many_tasks_take_several_figures_and_no_pair_is_parted(
    sides: dict[Kind, Sides], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.external.drawings.MOST_PANELS", 4)
    figures = figures_of(sides, "multiclass")
    assert [len(figures[f"external_roc_multiclass{part}"].axes) for part in ("", "_2")] == [4, 2]


@pytest.mark.parametrize("kind", ["binary", "ordinal", "regression"])
def test_captions_count_what_a_bag_is(sides: dict[Kind, Sides], kind: Kind) -> None:
    captions = {bag: {stem: text for stem, _, text in drawings(replace(sides[kind], bag=bag, title="slide a and b"))}
                for bag in ("slide", "patient")}  # fmt: skip
    for stem, text in captions["slide"].items():
        assert captions["patient"][stem] == re.sub(r"slide(?! a)", "patient", text)
    assert sum("patient" in text for text in captions["patient"].values()) >= 1


def test_the_page_names_every_figure(sides: dict[Kind, Sides], external: External, tmp_path: Path) -> None:
    only = {"binary": sides["binary"].both}
    drawn = draw_sides(external, sides["binary"].trials[EXTERNAL], only, tmp_path)  # type: ignore[arg-type]
    page = write_tables(external, only, tmp_path, drawn)[0].read_text()  # type: ignore[arg-type]
    assert [figure.stem for figure in drawn] == FIGURES["binary"]
    for stem in FIGURES["binary"]:
        assert f"![{stem}]({stem}.png)" in page
        assert all((tmp_path / f"{stem}.{suffix}").stat().st_size for suffix in ("png", "pdf", "tex"))
    assert calibration.NOTES["binary"] in page
