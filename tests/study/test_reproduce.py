"""The study by name: each part's trainings, what parts share, and a command that resumes."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from commands_for_tests import Milbench
from folders_for_tests import make_folder_cohort

from milbench import datasets
from milbench.cohorts.cohort import Cohort, read_cohort
from milbench.cohorts.cohort_file import CohortFile
from milbench.datasets import Dataset
from milbench.errors import UsageError
from milbench.study import parts as study
from milbench.study import reproduce
from milbench.study.parts import NEEDS, datasets_of, main_variant, most_mutated, parts_of
from milbench.study.reproduce import Request, Study, plan_study

SMALL = {"hidden": 8, "attention": 4, "landmarks": 2}
LABELS = {f"G{index}": period for index, period in enumerate((2, 3, 4, 5, 6, 7))}
"""Task by name, and every how many patients one is positive: G0 is the most mutated."""


def load_toy(folder: Path, _: Path | None, *, allow_missing: bool) -> Cohort:
    file = CohortFile("toy", folder / "labels.csv", folder / "features", n_folds=2, model=SMALL)
    return read_cohort(file, allow_missing=allow_missing)


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder_cohort(tmp_path_factory.mktemp("cohort") / "toy", n_patients=48)
    table = pd.read_csv(folder / "labels.csv")[["case_id", "slide_id"]]
    patients = table["case_id"].str[-2:].astype(int)
    for task, period in LABELS.items():
        table[task] = (patients % period == 0).astype(int)
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def toy(toy_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A catalogue entry small enough to train in a test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(datasets.all_datasets()))
    load = partial(load_toy, toy_folder)
    datasets.catalogue(Dataset("toy", "for tests", 58, 48, tuple(LABELS), "kfold", load))


def planned(*parts: str, epochs: int | None = None) -> Study:
    return plan_study(Request(parts_of(parts), ("toy",), epochs=epochs))


def test_m4_names_every_part_and_a_typing_error_the_nearest() -> None:
    assert parts_of(["m4"]) == tuple(NEEDS)
    assert parts_of(["fig4b", "table1"]) == ("table1", "fig4b")
    with pytest.raises(UsageError, match="Did you mean 'table2'"):
        parts_of(["tabel2"])


def test_the_five_cohorts_are_in_the_catalogue() -> None:
    assert set(study.DATASETS) <= set(datasets.all_datasets())


def test_table_1_trains_nothing() -> None:
    assert planned("table1").n_trainings == 0


def test_the_main_run_has_the_models_that_the_parts_need() -> None:
    assert len(main_variant(["table2"], ["toy"]).models) == 9
    assert set(main_variant(["table3"], ["toy"]).models) == set(study.ABLATION)
    assert main_variant(["fig4a", "fig4b"], ["toy"]).models == ("amil", "m4")


def test_no_training_is_planned_twice() -> None:
    every = planned("m4")
    keys = [trial.key for benchmark in every.variants.values() for trial in benchmark.trials]
    assert len(keys) == len(set(keys)) == every.n_trainings
    assert sum(len(pairs) for pairs in every.trials.values()) > every.n_trainings, "parts share trainings"


def test_the_whole_study_has_the_trainings_that_one_counts_by_hand() -> None:
    tasks, folds, single, multi = len(LABELS), 2, 6, 3
    main = folds * (single * tasks + multi)
    assert planned("m4").n_trainings == main + 4 * folds + 2 * folds


def test_the_variants_differ_from_the_main_run_in_one_thing() -> None:
    variants = planned("fig4a", "fig4b").variants
    assert {name: next(iter(b.trials)).hyperparameters["experts"] for name, b in variants.items() if "experts" in name} == {
        "experts-1": 1, "experts-3": 3, "experts-7": 7, "experts-9": 9,
    }  # fmt: skip
    assert variants["tasks-3"].trials[0].tasks == ("G0", "G1", "G2")
    assert variants["tasks-3"].trials[0].hyperparameters["experts"] == 5
    assert len({benchmark.entries[0].split.sha256 for benchmark in variants.values()}) == 1


def test_run_names_make_distinct_experiments_below_one_folder() -> None:
    runs = [benchmark.run for benchmark in planned("m4").variants.values()]
    assert len({run.name for run in runs}) == len(runs) == 7
    assert {run.path.parent for run in runs} == {Path("runs/m4")}


def test_another_number_of_epochs_has_folders_of_its_own() -> None:
    assert planned("table3", epochs=2).variants["main"].run.path == Path("runs/m4/epochs-2/main")


def test_the_most_mutated_tasks_are_counted_by_patient(toy_folder: Path) -> None:
    cohort = load_toy(toy_folder, None, allow_missing=False)
    assert most_mutated(cohort, 3) == ("G0", "G1", "G2")
    assert most_mutated(cohort, len(LABELS)) == (), "all of them are the main run's"
    slides = cohort.slides.copy()
    slides["G5"] = 0.0
    slides.loc[slides["patient_id"] == "TCGA-00", "G5"] = 1.0  # two slides of one patient
    patients = slides[slides["G5"] == 1]["patient_id"].nunique()
    assert study._positive_patients(study_cohort(cohort, slides), "G5") == patients == 1


def study_cohort(cohort: Cohort, slides: pd.DataFrame) -> Cohort:
    return Cohort("toy", slides, cohort.tasks, 1, "f", cohort.load)


def test_a_slide_without_features_does_not_change_which_tasks_are_chosen(toy_folder: Path) -> None:
    cohort = load_toy(toy_folder, None, allow_missing=False)
    left = cohort.slides[cohort.slides["G0"] != 1].reset_index(drop=True)
    thinned = replace(study_cohort(cohort, left), labelled=cohort.slides)
    assert most_mutated(thinned, 1) == ("G0",)


def test_controls_are_learned_along_at_every_number_of_tasks() -> None:
    digits = datasets.dataset("digits").load(None, allow_missing=False)
    variants = study.other_variants("fig4b", {"digits": digits})
    assert [len(v.tasks) for v in variants] == [4, 6]
    assert all("control" in v.tasks for v in variants)


def test_controls_are_never_among_the_most_mutated() -> None:
    digits = datasets.dataset("digits").load(None, allow_missing=False)
    assert "control" not in most_mutated(digits, 5)
    assert most_mutated(digits, 10) == ()


def test_fig_4b_is_shown_on_brca_and_without_it_on_the_first() -> None:
    assert datasets_of("fig4b", study.DATASETS) == ("tcga-brca",)
    assert datasets_of("fig4b", ("tcga-luad", "tcga-crc")) == ("tcga-luad",)
    assert datasets_of("fig4a", study.DATASETS) == study.DATASETS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tabel2",), "unknown part 'tabel2'. Did you mean 'table2'?"),
        (("m4", "--datasets", "tyo"), "unknown dataset 'tyo'. Did you mean 'toy'?"),
        (("m4", "--datasets", "toy", "--epochs", "0"), "--epochs is 0"),
        (("table1",), "no data root was given"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(
    milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv("MILBENCH_DATA", raising=False)
    result = milbench_here("reproduce", *words)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_dry_run_says_what_each_part_needs_and_writes_nothing(milbench_here: Milbench, tmp_path: Path) -> None:
    result = milbench_here("reproduce", "m4", "--datasets", "toy", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert f"{planned('m4').n_trainings} distinct trainings, 0 done" in result.stdout
    assert "tasks-3: M4 on G0, G1, G2 (toy)" in result.stdout
    assert not list(tmp_path.iterdir())


def test_table_1_alone_is_written_without_a_trial(milbench_here: Milbench, tmp_path: Path) -> None:
    result = milbench_here("reproduce", "table1", "--datasets", "toy", "--no-tracking")
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "reports" / "m4" / "table1.csv").set_index("task")
    assert table.loc["G0", "patients_mutated"] == 24
    assert not list((tmp_path / "runs").rglob("trial.json"))


FIG4 = ("reproduce", "fig4a", "fig4b", "fig5", "--datasets", "toy", "--epochs", "1", "--workers", "1", "--no-tracking")


@pytest.mark.slow
def test_figure_4_is_trained_drawn_and_not_trained_again(milbench_here: Milbench, tmp_path: Path) -> None:
    assert (result := milbench_here(*FIG4)).returncode == 0, result.stdout + result.stderr
    report = tmp_path / "reports" / "m4-epochs-1"
    assert {"fig4a_toy.png", "fig4b_toy.pdf", "fig4a_toy.csv", "table1.tex"} <= {path.name for path in report.iterdir()}
    claims = pd.read_csv(report / "claims.csv").drop_duplicates("claim").set_index("claim")
    assert len(claims) == 8
    assert claims.loc[1, "why"].startswith("not in the stores: tcga-gbmlgg")
    assert "no cohort says which patches carry the evidence" in claims.loc[8, "why"]
    assert {"toy_G0_slides.png", "toy_G0_slides.svg"} <= {path.name for path in (report / "fig5").iterdir()}
    trials = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("trial.json")}
    assert len(trials) == 2 * (6 + 1) + 4 * 2 + 2 * 2
    shutil.rmtree(report)
    again = milbench_here(*FIG4)
    assert "26 distinct trainings, 26 done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("trial.json")} == trials
    assert (report / "fig4a_toy.png").exists()


def test_a_failure_ends_with_code_three_and_no_report(
    milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr("milbench.engines.prepared_group.Learner", fails)
    result = milbench_here("reproduce", "fig5", "--datasets", "toy", "--epochs", "1", "--workers", "1", "--no-tracking")
    assert result.returncode == 3, result.stderr
    assert "ValueError: on purpose" in result.stdout
    assert "no report was written" in result.stdout
    assert not (tmp_path / "reports").exists()


def test_the_study_runs_where_it_is_told_to(toy_folder: Path) -> None:
    request = Request(
        ("fig4a",), ("toy",), precision="bf16", engine={"kind": "slurm"}, assignments=("engine.slurm.jobs=4",)
    )
    configs = [benchmark.config for benchmark in plan_study(request).variants.values()]
    assert {(c.precision, c.engine.kind, c.engine.slurm["jobs"]) for c in configs} == {("bf16", "slurm", "4")}
    assert {Path(c.run).parent for c in configs} == {Path("runs/m4/bf16")}
    assert request.report_folder == Path("reports/m4-bf16")
    assert replace(request, precision="float32").folder == Path("runs/m4")


def test_the_studys_settings_are_the_papers(milbench_here: Milbench) -> None:
    refused = milbench_here("reproduce", "fig4a", "--set", "trainer.lr=1", "--dry-run")
    assert refused.returncode == 2
    assert "Set only those of engine" in refused.stderr


@pytest.mark.parametrize("left", [1, 0])
def test_an_interrupt_stops_before_the_next_run_folder(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Also where the trials in flight were the folder's last."""
    begun = []

    def stopped(benchmark: reproduce.Benchmark, _: object) -> reproduce.Outcome:
        begun.append(benchmark.run.name)
        return reproduce.Outcome(benchmark.run, 0, 0, 0, left=left, skipped=0, interrupted=True, refused="")

    monkeypatch.setattr(reproduce, "run_benchmark", stopped)
    outcomes = reproduce.run_study(planned("fig4a"), lambda _: None)  # type: ignore[arg-type,return-value]
    assert begun == ["main"]
    assert outcomes[-1].left == left


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_study_runs_on_digits(milbench: Milbench, tmp_path: Path) -> None:
    result = milbench("reproduce", "m4", "--datasets", "digits", "--epochs", "1", timeout=1700)
    assert result.returncode == 0, result.stdout + result.stderr
    names = {path.name for path in (tmp_path / "reports" / "m4-epochs-1").iterdir()}
    tables = {f"table{number}.tex" for number in (1, 2, 3)}
    assert tables | {"radar_digits.png", "fig4a_digits.png", "fig4b_digits.png", "fig5", "index.html"} <= names
