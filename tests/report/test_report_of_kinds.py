"""The report on tasks of every kind: a block per kind, no mean over kinds, and cells without a number counted."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kinds_for_tests import ENDPOINTS, make_run_of_kinds
from latex_for_tests import compile_latex

from milbench.report import write_report
from milbench.stats.metric import METRICS
from milbench.stats.scores import score_table
from milbench.store.run import Run
from milbench.store.run_writing import write_trial

DRAWS = 100
OTHER_KINDS = ("multiclass", "ordinal", "regression", "survival")
TASK_OF = {endpoint.kind: task for task, endpoint in ENDPOINTS.items() if task != "control"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run_of_kinds(tmp_path_factory.mktemp("runs") / "kinds")


@pytest.fixture(scope="module")
def report(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([run], tmp_path_factory.mktemp("reports") / "kinds", draws=DRAWS).parent


def test_each_kind_has_its_own_tables_and_figures_and_binary_ones_keep_their_names(report: Path) -> None:
    tables = ["table1", "table2", "spread", "tasks_toy", "against_toy"]
    expected = [*tables, "table3", "operating_toy", "costs_toy", "settings", "risk_groups_toy_survival"]
    expected += [f"{name}_{kind}" for kind in OTHER_KINDS for name in (*tables, "metrics_toy")]
    found = {path.stem for path in report.glob("*.csv")}
    assert found == set(expected)
    figures = {path.stem for path in report.glob("*.png")}
    shared = {"box_toy", "training_toy", "pareto_all_tasks_seconds_toy"}
    own = {"roc_toy", "roc_toy_multiclass", "confusion_toy_multiclass", "confusion_toy_ordinal", "predicted_toy_regression",
           "kaplan_meier_toy_survival"}  # fmt: skip
    calibration = {f"calibration_toy_{kind}" for kind in OTHER_KINDS}
    assert figures == shared | own | calibration | {f"{name}_{kind}" for name in shared for kind in OTHER_KINDS}


def test_tables_that_lie_beside_each_other_hold_one_metric_each(run: Run, report: Path) -> None:
    for kind, metric in METRICS.items():
        suffix = "" if kind == "binary" else f"_{kind}"
        table = pd.read_csv(report / f"table2{suffix}.csv").set_index("model")
        scores = score_table([run], kind)
        mine = scores[(scores["model"] == "m4") & ~scores["is_control"].astype(bool)]
        assert table.loc["m4", metric.name] == pytest.approx(mine["score"].mean())
        others = {other.name for other in METRICS.values()} - {metric.name}
        assert not others & set(table.columns)
        assert f"test {metric.title} over tasks" in (report / f"table2{suffix}.md").read_text()


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_caption_says_what_the_metric_is_and_when_n_is_too_small(report: Path, kind: str) -> None:
    rules = {"multiclass": "fewer than 10 test patients of a class", "ordinal": "fewer than 10 test patients of a grade",
             "regression": "fewer than 30 test patients", "survival": "fewer than 10 test patients with an event"}  # fmt: skip
    text = (report / f"tasks_toy_{kind}.md").read_text()
    assert f"Test {METRICS[kind].title} by task on TOY." in text  # type: ignore[index]
    assert rules[kind] in text


def test_test_patients_are_counted_in_the_words_of_the_kind(report: Path) -> None:
    row = {kind: (report / f"tasks_toy_{kind}.md").read_text() for kind in OTHER_KINDS}
    assert re.search(r"\| events/all test patients \| \d+/\d+ \|", row["survival"])
    assert re.search(r"\| test patients \| \d+ \|", row["regression"])
    assert re.search(r"\| test patients \| \d+<br><sub>Basal \d+; Her2 \d+; Luminal \d+</sub> \|", row["multiclass"])
    assert re.search(r"G1 \d+; G2 \d+; G3 \d+; G4 \d+", row["ordinal"])


def test_the_metrics_beside_the_primary_one_are_means_over_folds_at_its_level(report: Path) -> None:
    scores = pd.read_csv(report / "data" / "scores_survival.csv")
    mine = scores[(scores["model"] == "m4") & (scores["level"] == "patient")]
    table = pd.read_csv(report / "metrics_toy_survival.csv").set_index("model")
    for column in ("c_index", "uno_c", "auc_12_months", "integrated_brier"):
        assert table.loc["m4", f"{column}_mean"] == pytest.approx(mine[column].mean())
        assert table.loc["m4", f"{column}_count"] == 3
    assert np.isnan(table.loc["amil", "integrated_brier_mean"]), "a Cox model knows no survival at a time"
    amil = next(
        line for line in (report / "metrics_toy_survival.md").read_text().splitlines() if line.startswith("| OS, AMIL")
    )
    assert amil.endswith("| – |")


def test_a_model_has_an_auroc_of_each_class(report: Path) -> None:
    table = pd.read_csv(report / "metrics_toy_multiclass.csv").set_index("model")
    of_classes = [f"auroc of {name}_mean" for name in ENDPOINTS["subtype"].classes]
    assert table.loc["m4", of_classes].mean() == pytest.approx(table.loc["m4", "macro_auroc_mean"])


def test_costs_and_settings_stand_once(report: Path) -> None:
    text = (report / "index.md").read_text()
    assert text.count("## costs_toy") == text.count("## settings") == 1
    settings = pd.read_csv(report / "settings.csv").set_index("setting")["value"]
    assert "OS (survival, cox or survival, nll, 4 bins)" in settings["tasks that are not binary"]


def test_the_page_holds_the_same_tables_and_every_figure_of_a_kind(report: Path) -> None:
    text = (report / "index.html").read_text()
    blocks = json.loads(text.split('id="data-kinds">')[1].split("</script>")[0])
    assert [block["kind"] for block in blocks] == list(OTHER_KINDS)
    for block in blocks:
        names = [table["name"] for table in block["tables"]]
        assert set(names) == {path.stem for path in report.glob(f"*_{block['kind']}.csv")}
        drawn = {path.stem for path in report.glob(f"*_{block['kind']}.png") if "pareto" not in path.stem}
        assert {stem for stem, *_ in block["pictures"]} == drawn
    core = json.loads(text.split('id="data-core">')[1].split("</script>")[0])
    assert set(core["tasks"]["task"]) == {"TP53", "control"}
    assert "Survival tasks: M4 leads with a mean test c-index of" in text


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_run_without_binary_tasks_has_no_binary_block(tmp_path: Path, kind: str) -> None:
    only = make_run_of_kinds(tmp_path / "only", tasks=(TASK_OF[kind],), folds=(0,))  # type: ignore[index]
    out = write_report([only], tmp_path / "report", draws=DRAWS).parent
    assert not (out / "table2.csv").exists()
    assert not (out / "roc_toy.png").exists()
    assert (out / f"table2_{kind}.csv").exists()
    assert (out / "costs_toy.csv").exists()
    text = (out / "index.html").read_text()
    assert f"mean test {METRICS[kind].title} of 0." in text  # type: ignore[index]
    assert "AUROC" not in text.split('id="summary-title"')[1].split("</section>")[0].replace("macro AUROC", "")


def with_targets(run: Run, change: Any) -> Run:
    """The run with other test labels, in all its trials."""
    for trial in run.trials():
        table = trial.answers()
        write_trial(run, trial.id, trial.info, change(table), trial.history(), None)
    return run


def no_events(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(event=table["event"].where(table["role"] != "test", 0.0))


def no_third_class(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(target=table["target"].mask((table["role"] == "test") & (table["target"] == 2), 0.0))


def one_value(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(target=table["target"].where(table["role"] != "test", 30.0))


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_test_side_without_a_label_leaves_the_rest_of_the_report_whole(tmp_path: Path, kind: str) -> None:
    def unlabelled(table: pd.DataFrame) -> pd.DataFrame:
        known = table["role"] != "test"
        return table.assign(target=table["target"].where(known), event=table["event"].where(known))

    task = TASK_OF[kind]  # type: ignore[index]
    run = with_targets(make_run_of_kinds(tmp_path / "bare", tasks=(task, "TP53"), folds=(0,)), unlabelled)
    out = write_report([run], tmp_path / "report", draws=DRAWS).parent
    assert "| M4 | – |" in (out / f"table2_{kind}.md").read_text()
    assert (out / f"training_toy_{kind}.png").exists()


@pytest.mark.parametrize(
    ("kind", "change"), [("survival", no_events), ("multiclass", no_third_class), ("regression", one_value)]
)
def test_a_test_side_without_a_score_is_a_dash_and_is_counted(tmp_path: Path, kind: str, change: Any) -> None:
    task, metric = TASK_OF[kind], METRICS[kind]  # type: ignore[index]
    run = with_targets(make_run_of_kinds(tmp_path / "bad", tasks=(task,), folds=(0, 1)), change)
    out = write_report([run], tmp_path / "report", draws=DRAWS).parent
    text = (out / f"table2_{kind}.md").read_text()
    assert "| M4 | – |" in text
    assert f"TOY: 2 (task, fold) pairs have no {metric.title} and are left out of means ({task} in folds 0, 1)." in text
    page = (out / "index.html").read_text()
    assert f"No model has a defined mean {metric.title}, so none leads." in page
    assert "(task, fold) pairs without a score: 2" in page


def test_cohorts_of_different_kinds_share_no_table(tmp_path: Path) -> None:
    one = make_run_of_kinds(tmp_path / "one", tasks=("OS",), folds=(0,))
    two = make_run_of_kinds(tmp_path / "two", tasks=("TP53", "control"), folds=(0,), dataset="toy_survival")
    out = write_report([one, two], tmp_path / "report", draws=DRAWS).parent
    assert "Average" not in (out / "table2.md").read_text() + (out / "table2_survival.md").read_text()
    assert set(pd.read_csv(out / "tasks_toy_survival.csv")["task"]) == {"TP53", "control"}
    assert set(pd.read_csv(out / "tasks_toy__survival.csv")["task"]) == {"OS"}
    assert {path.stem for path in out.glob("costs_*.csv")} == {"costs_toy", "costs_toy_survival"}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_of_every_kind_compiles(report: Path, tmp_path: Path) -> None:
    shutil.copytree(report, tmp_path / "tex")
    assert compile_latex(tmp_path / "tex").stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_stores_give_the_same_bytes(run: Run, report: Path, tmp_path: Path) -> None:
    write_report([Run(run.path)], tmp_path / "again", draws=DRAWS)
    for path in (path.relative_to(report) for path in report.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path).read_bytes() == (report / path).read_bytes(), path
