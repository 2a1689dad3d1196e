"""`--tasks` narrows what is learned and shown, and nothing else."""

from pathlib import Path

import pytest
from commands_for_tests import PLUGIN, Milbench
from folders_for_tests import make_folder_cohort

from milbench.errors import UsageError
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare
from milbench.store.run import open_run


def planned(cohort: Path, *tasks: str, models: tuple[str, ...] = ("tiny", "tiny_multi")) -> Benchmark:
    flags = {"cohorts": [str(cohort)], "models": list(models), "plugins": [PLUGIN], "tasks": list(tasks)}
    return prepare(make_config(None, [], flags))


def test_the_split_and_the_fingerprint_stay_those_of_all_tasks(cohort_folder: Path) -> None:
    whole, one = planned(cohort_folder), planned(cohort_folder, "B")
    assert one.entries[0].split.sha256 == whole.entries[0].split.sha256
    assert one.entries[0].cohort.fingerprint == whole.entries[0].cohort.fingerprint
    assert one.entries[0].cohort.tasks == ("B",)


def test_a_single_task_trial_is_the_same_trial(cohort_folder: Path) -> None:
    whole = {trial.id for trial in planned(cohort_folder, models=("tiny",)).trials}
    some = {trial.id for trial in planned(cohort_folder, "B", models=("tiny",)).trials}
    assert some == {trial_id for trial_id in whole if "/B/" in trial_id}


def test_a_multi_task_model_learns_the_named_tasks_only(cohort_folder: Path) -> None:
    whole, pattern = (planned(cohort_folder, *words, models=("tiny_multi",)) for words in ((), ("[AB]",)))
    assert {trial.key for trial in pattern.trials} == {trial.key for trial in whole.trials}
    assert {trial.tasks for trial in planned(cohort_folder, "A", models=("tiny_multi",)).trials} == {("A",)}


def test_a_choice_of_tasks_has_a_run_folder_of_its_own(cohort_folder: Path) -> None:
    assert planned(cohort_folder).run.path != planned(cohort_folder, "A").run.path


def test_a_cohort_without_any_of_the_tasks_is_refused(cohort_folder: Path, tmp_path: Path) -> None:
    other = make_folder_cohort(tmp_path / "other")
    text = (other / "labels.csv").read_text().replace("slide_id,A,B", "slide_id,C,D")
    (other / "labels.csv").write_text(text)
    flags = {"cohorts": [str(cohort_folder), str(other)], "models": ["amil"], "tasks": ["A"]}
    with pytest.raises(UsageError, match="cohort 'other' has none of the tasks A"):
        prepare(make_config(None, [], flags))


def test_a_run_of_some_tasks_refuses_all_of_them(milbench_here: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    words = ("run", "--run", "out", "--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1",
             "--no-tracking", "--plugin", PLUGIN, "--set", "trainer.epochs=1")  # fmt: skip
    assert milbench_here(*words, "--tasks", "A").returncode == 0
    assert open_run(tmp_path / "out").datasets["toy"]["tasks"] == ["A"]
    refused = milbench_here(*words)
    assert refused.returncode == 2
    assert "tasks: ['A'] there, [] now" in refused.stderr


def test_a_run_of_an_older_version_goes_on(milbench_here: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    words = ("run", "--run", "out", "--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1",
             "--no-tracking", "--plugin", PLUGIN, "--set", "trainer.epochs=1")  # fmt: skip
    assert milbench_here(*words).returncode == 0
    path = tmp_path / "out" / "run.yaml"
    path.write_text(path.read_text().replace("tasks: []\n", ""))
    assert "2 trials done before" in milbench_here(*words).stdout
