"""Ladder of sharing: its order, what a row is compared with, and its numbers beside those of the pair table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from runs_for_tests import MODELS, make_run

from milbench.errors import UsageError
from milbench.models import REGISTERED, Sharing, register_model
from milbench.registry import load_models
from milbench.report import write_report
from milbench.report.ladder import Rung, rungs_of, with_ladder
from milbench.report.published import PAPER, beside_ours, with_paper
from milbench.report.score_tables import ABLATION, model_table
from milbench.report.tables import to_latex, to_markdown
from milbench.runs.header import _sharing
from milbench.stats.scores import score_table, summary
from milbench.store.run_writing import write_header

LADDER = ("amil", "shared_bottom_amil", "moe_amil", "mmoe_amil", "ple_amil", "mmoe_mp_amil", "m4")


def declared() -> dict[str, Any]:
    """Facts of a cohort in the header of a run of this version."""
    return _sharing(list(load_models()))


def named(rungs: list[Rung]) -> list[tuple[str, str]]:
    return [(rung.model, rung.base) for rung in rungs]


def test_milbenchs_models_stand_in_the_order_of_what_they_share() -> None:
    rungs = [rung for rung in rungs_of({"toy": declared()}, LADDER) if rung.model in LADDER]
    assert named(rungs) == [
        ("amil", ""), ("shared_bottom_amil", "amil"), ("moe_amil", "shared_bottom_amil"), ("mmoe_amil", "moe_amil"),
        ("ple_amil", "mmoe_amil"), ("mmoe_mp_amil", "mmoe_amil"), ("m4", "mmoe_mp_amil"),
    ]  # fmt: skip
    assert [rung.what for rung in rungs[:3]] == ["nothing", "trunk", "experts, one gate"]


def test_a_row_is_compared_with_the_nearest_before_it_that_ran() -> None:
    assert named(rungs_of({"toy": declared()}, ABLATION)) == [
        ("amil", ""), ("mmoe_amil", "amil"), ("mmoe_mp_amil", "mmoe_amil"), ("m4", "mmoe_mp_amil"),
    ]  # fmt: skip
    assert named(rungs_of({"toy": declared()}, {"m4", "moe_amil", "dsmil"})) == [("moe_amil", ""), ("m4", "moe_amil")]


def test_the_header_of_an_older_version_gives_the_rows_that_declarations_give() -> None:
    old, new = rungs_of({"toy": {}}, MODELS), rungs_of({"toy": declared()}, MODELS)
    assert [(rung.model, rung.what, rung.base) for rung in old] == [(rung.model, rung.what, rung.base) for rung in new]
    assert tuple(rung.model for rung in old) == ABLATION


def test_a_model_of_another_person_joins_between_two_of_milbenchs() -> None:
    facts = declared()["sharing"]
    facts["mine"] = {"what": "halves", "step": 2.5, "after": ["moe_amil", "shared_bottom_amil", "amil"]}
    rungs = rungs_of({"toy": {"sharing": facts}}, {*LADDER, "mine"})
    assert named(rungs)[3:5] == [("mine", "moe_amil"), ("mmoe_amil", "moe_amil")]


def test_models_before_stop_at_one_that_declares_nothing_or_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class One:
        info = type("Info", (), {"sharing": Sharing("a", 1, after="two")})

    class Two:
        info = type("Info", (), {"sharing": Sharing("b", 2, after="one")})

    class Three:
        info = type("Info", (), {"sharing": Sharing("c", 3, after="nobody")})

    for name, model in (("one", One), ("two", Two), ("three", Three)):
        monkeypatch.setitem(REGISTERED, name, model)
    told = _sharing(["one", "two", "three"])["sharing"]
    assert told["one"]["after"] == ["two", "one"]
    assert told["three"]["after"] == []
    assert _sharing(["mean_pooling"]) == {}


def test_a_place_that_is_no_sharing_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"place of model 'wrong' on the ladder of sharing is 'trunk'; expected a Sharing"
    ):
        register_model("wrong", title="Wrong", tasks="multi", sharing="trunk")  # type: ignore[arg-type]


# ---- the table -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder")
    run = make_run(folder / "run", datasets=("toy", "other"), folds=(0, 1))
    datasets = {name: {**facts, **declared()} for name, facts in run.datasets.items()}
    write_header(run, run.config, {"git": "0", "milbench": "0"}, datasets, run.planned())
    write_report([run], folder / "report", draws=100)
    return folder


def test_gains_are_differences_of_the_means(report: Path) -> None:
    from milbench.store.run import open_run

    means = summary(score_table([open_run(report / "run")])).set_index(["dataset", "model"])["mean"]
    rows = pd.read_csv(report / "report" / "table3.csv").set_index(["dataset", "model"])
    for name in ("toy", "other"):
        assert rows.loc[(name, "m4"), "gain"] == pytest.approx(means[name, "m4"] - means[name, "amil"])
        step = means[name, "mmoe_mp_amil"] - means[name, "mmoe_amil"]
        assert rows.loc[(name, "mmoe_mp_amil"), "step_gain"] == pytest.approx(step)
    of_all = means.groupby("model").mean()
    assert rows.loc[("all", "m4"), "gain"] == pytest.approx(of_all["m4"] - of_all["amil"])
    assert rows.loc[("all", "mmoe_amil"), "step_over"] == "amil"


def test_intervals_of_gains_are_those_of_the_pair_table(report: Path) -> None:
    pairs = pd.read_csv(report / "report" / "data" / "pairs.csv").set_index(["dataset", "model_a", "model_b"])
    rows = pd.read_csv(report / "report" / "table3.csv").set_index(["dataset", "model"])
    pair = pairs.loc[("toy", "amil", "m4")]
    gain = rows.loc[("toy", "m4")]
    assert (gain["gain_low"], gain["gain_high"]) == pytest.approx((-pair["high"], -pair["low"]))
    assert gain["gain_p_holm"] == pytest.approx(pair["p_holm"])


def test_each_row_says_what_is_shared_and_over_whom_it_gains(report: Path) -> None:
    lines = (report / "report" / "table3.md").read_text().splitlines()
    assert lines[0] == "| Method | OTHER | TOY | Average | Gain over AMIL | Gain of the step |"
    assert lines[2].startswith("| AMIL<br><sub>nothing</sub> |")
    assert lines[2].endswith("| – | – |")
    assert lines[3].startswith("| MMoE+AMIL<br><sub>experts, one gate per task</sub> |")
    assert "over AMIL" in lines[3]
    assert "over MMoE+MP-AMIL" in lines[5]
    assert "DSMIL" not in "".join(lines[2:8])
    assert "{\\tiny experts, one gate per task}" in (report / "report" / "table3.tex").read_text()
    assert 'id="sharing"' in (report / "report" / "index.html").read_text()


def test_one_model_alone_is_no_ladder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("amil", "dsmil"))
    write_report([run], tmp_path / "report", draws=20)
    assert not (tmp_path / "report" / "table3.md").exists()
    assert 'id="sharing"' not in (tmp_path / "report" / "index.html").read_text()


COHORTS = ("tcga-brca", "tcga-crc", "tcga-gbmlgg", "tcga-luad", "tcga-ucec")


def test_the_papers_rows_stand_under_those_of_the_ladder_and_have_no_gain() -> None:
    titles = {"amil": "AMIL", "m4": "M4", "la_mil": "LA-MIL"}
    rows = [
        {"dataset": name, "model": model, "title": title, "score": 0.7, "sd": 0.01, "low": 0.65, "high": 0.75,
         "n_missing": 0, "n_cells": 9}
        for name in COHORTS
        for model, title in titles.items()
    ]  # fmt: skip
    cohorts = pd.DataFrame(rows)
    overall = cohorts.iloc[:3].drop(columns=["dataset", "n_missing", "n_cells"]).assign(low_fixed=0.66, high_fixed=0.74)
    nothing = pd.DataFrame({"dataset": [], "task": [], "name": [], "score": []})
    table = model_table("t", "Caption.", cohorts, overall, {name: name for name in COHORTS}, {}, nothing)
    table = with_paper(table, 3, beside_ours(cohorts, overall), [*COHORTS, "all"])
    pairs = pd.DataFrame([("all", "amil", "m4", -0.02, -0.03, 0.01, 0.04), ("all", "la_mil", "m4", 0.1, 0.0, 0.2, 1.0)],
                         columns=["dataset", "model_a", "model_b", "delta", "low", "high", "p_holm"])  # fmt: skip
    rungs = [Rung("amil", "nothing", 0, ""), Rung("m4", "experts", 6, "amil"), Rung("la_mil", "all", 7, "")]
    found = with_ladder(table, rungs, pairs, titles)
    assert [row.title for row in found.rows] == ["AMIL", PAPER, "M4", PAPER, "LA-MIL"]
    assert [row.rule for row in found.rows] == [False, False, False, False, True]
    assert [(cell.text, cell.below) for cell in found.rows[2].cells[-2:]] == [
        ("+0.020†", "−0.010 to +0.030"), ("+0.020†", "−0.010 to +0.030\nover AMIL"),
    ]  # fmt: skip
    assert [cell.text for cell in found.rows[3].cells[-2:]] == ["", ""]
    assert found.rows[3].cells[0].below.splitlines()[1].startswith("(")
    assert [cell.text for cell in found.rows[4].cells[-2:]] == ["–", "–"], "its pair was not compared"
    assert to_latex(found).count(r"\midrule") == 2
    assert "<br><sub>experts</sub>" in to_markdown(found)
