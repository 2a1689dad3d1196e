"""From runs to the page's data: nothing invented, nothing lost."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs_for_tests import MODELS, TASKS, make_run
from sklearn.metrics import roc_auc_score

from milbench.report import published
from milbench.report.costs import cost_frame
from milbench.report.html import PageData, page_data, write_page
from milbench.report.published import PAPERS_COHORTS
from milbench.stats.analysis import analyse
from milbench.store.run import Run
from milbench.store.run_writing import write_failure


def data_of(run: Run) -> PageData:
    return page_data([run], analyse([run], draws=50), costs=cost_frame([run]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "one")


def test_every_trial_has_its_curve(run: Run) -> None:
    curves = data_of(run).curves
    keys = ["dataset", "model", "task_label", "fold", "seed"]
    assert len(curves[keys].drop_duplicates()) == len(run.trials())
    assert set(curves["task_label"]) == {*TASKS, "all"}


def test_roc_scores_are_means_over_folds(run: Run) -> None:
    page = data_of(run)
    assert len(page.roc) == len(MODELS) * len(TASKS)
    curve = next(entry for entry in page.roc if entry.model == "m4" and entry.task == "TP53")
    frames = [trial.predictions() for trial in run.trials() if trial.info["model"] == "m4"]
    tables = [frame[(frame["role"] == "test") & (frame["task"] == "TP53")].sort_values("slide_id") for frame in frames]
    means = np.mean([table["probability"] for table in tables], axis=0)
    assert roc_auc_score(curve.targets, curve.probabilities) == roc_auc_score(tables[0]["target"], means)


def test_an_older_run_without_costs_has_parameters_and_nan(run: Run) -> None:
    costs = data_of(run).costs.set_index("model")
    assert list(costs.index) == list(MODELS)
    assert (costs["n_parameters"] == 1000).all()
    assert costs[["multiply_adds", "inference_seconds", "energy_joules"]].isna().all().all()


def test_all_tasks_of_a_single_task_model_cost_the_sum_of_their_trainings(run: Run) -> None:
    seconds = data_of(run).costs.set_index("model")["all_tasks_seconds"]
    assert (seconds["amil"], seconds["m4"]) == (1.5 * len(TASKS), 1.5)


def test_a_declared_licence_stands_on_the_page_as_text_and_no_line_stands_for_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one", models=("amil",), folds=(0,))
    assert not [label for label, _ in data_of(run).provenance[0].facts if "licence" in label]
    path = run.path / "datasets.json"
    datasets = json.loads(path.read_text())
    name = next(iter(datasets))
    datasets[name]["licence"] = "CC-BY-4.0 <script>alert(1)</script>"
    path.write_text(json.dumps(datasets))
    page = data_of(Run(run.path))
    assert (f"licence of {name}'s data, as declared", "CC-BY-4.0 <script>alert(1)</script>") in page.provenance[0].facts
    text = write_page(tmp_path / "page", page).read_text()
    assert "<code>CC-BY-4.0 &lt;script&gt;alert(1)&lt;/script&gt;</code>" in text
    assert "<script>alert(1)" not in text


def test_a_task_without_positives_is_named_with_the_reason(tmp_path: Path) -> None:
    undefined = data_of(make_run(tmp_path / "toy", one_class=("A_B",))).undefined
    assert list(undefined["task"]) == ["A_B"] * 3
    assert set(undefined["reason"]) == {"no positive among 60 labelled test slides"}


def test_a_planned_trial_without_a_result_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "toy", models=("m4",))
    trial = run.trials()[0]
    (trial.path / "trial.json").unlink()
    assert data_of(run).failures.iloc[0]["type"] == "not finished"
    write_failure(run, trial.info["key"], {"id": trial.id, "type": "RuntimeError", "message": "out of memory"})
    rows = data_of(run).failures
    assert rows.to_numpy().tolist() == [[trial.id, "RuntimeError", "out of memory"]]


def test_provenance_holds_versions_commit_splits_and_commands_that_work_where_the_report_was_made(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    facts = dict(data_of(run).provenance[0].facts)
    assert facts["commit"] == "0123abc"
    assert facts["split of toy"] == "f" * 64
    assert facts["repeat the run"] == f"milbench run --config {run.path.parent.name}/one/run.yaml"
    assert facts["trials"] == f"{len(run.trials())} finished of {len(run.trials())} planned"
    assert facts["render the report"] == f"milbench report {run.path.parent.name}/one"
    assert str(run.path) not in str(facts)


def test_the_papers_numbers_stand_beside_ours_and_its_average_only_beside_its_five_cohorts(tmp_path: Path) -> None:
    for datasets, shown in (({"tcga-gbmlgg"}, {"tcga-gbmlgg"}), (PAPERS_COHORTS, set(published()["cohort"]))):
        run = make_run(tmp_path / str(len(datasets)), datasets=tuple(sorted(datasets)), models=("m4",), folds=(0,))
        page = page_data([run], analyse([run], draws=20), costs=cost_frame([run]), published=published())
        assert set(page.published["cohort"]) == shown


def test_the_same_run_gives_the_same_page(run: Run, tmp_path: Path) -> None:
    pages = [write_page(tmp_path / name, data_of(Run(run.path))).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
