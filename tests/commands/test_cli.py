"""The command line as a user meets it: exit codes, one clear message, no traceback, nothing lost."""

import contextlib
import json
import os
import re
import shutil
import stat
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from commands_for_tests import FAST, PLUGIN, Milbench
from folders_for_tests import WIDTH, make_folder_cohort, write_h5
from runs_for_tests import make_run

from milbench.commands.cli import COMMANDS, main, parser
from milbench.errors import UsageError


def one_fold(cohort: Path) -> tuple[str, ...]:
    """The words of a run of seconds: two trials, in one process."""
    return ("run", "--run", "out", "--models", "tiny", "--cohort", str(cohort), "--folds", "0", "--workers", "1", *FAST)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and the finished run of `one_fold`; both are named by their place in it."""
    folder = tmp_path_factory.mktemp("finished")
    make_folder_cohort(folder / "toy")
    with contextlib.chdir(folder):
        assert main(one_fold(Path("toy"))) == 0
    return folder


@pytest.fixture
def ran(finished: Path, tmp_path: Path) -> Path:
    """The cohort of a copy of that folder, where the test is: the run is `out`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return Path("toy")


def files(folder: Path) -> list[Path]:
    return sorted((folder / "features").iterdir())


def test_help_is_there_for_every_command_and_imports_nothing_heavy(milbench_here: Milbench) -> None:
    assert all(name in milbench_here("--help").stdout for name in COMMANDS)
    for name in COMMANDS:
        result = milbench_here(name, "--help")
        assert result.returncode == 0
        assert "usage: milbench" in result.stdout
    code = "import sys; from milbench.commands.cli import parser; parser(); print(sorted({'torch','pandas','mlflow','numpy'} & set(sys.modules)))"
    import subprocess

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_a_run_on_a_folder_ends_with_table_place_and_next_commands(
    milbench: Milbench, milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0-1", "--workers", "1", *FAST)
    result = milbench("run", *words)
    assert result.returncode == 0, result.stdout + result.stderr
    for text in ("Tiny", "±", "run: runs/toy", "milbench report runs/toy"):
        assert text in result.stdout
    assert "milbench ui" not in result.stdout, "nothing was tracked"
    report = milbench_here("report")
    assert report.returncode == 0, report.stderr
    assert (tmp_path / report.stdout.split("report: ")[1].strip()).exists()


def test_predictions_cover_validation_and_test_slides_once_per_task(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("--run", "out", "--models", "tiny_multi", "--cohort", str(cohort_folder), "--folds", "0", *FAST)
    milbench_here("run", *words, "--workers", "1")
    table = pd.read_parquet(next((tmp_path / "out").glob("trials/toy/tiny_multi/all/*/predictions.parquet")))
    split = pd.read_csv(tmp_path / "out" / "splits" / "toy.csv").set_index("patient_id")["fold_0"]
    assert not table.duplicated(["slide_id", "task"]).any()
    assert (table["patient_id"].map(split) == table["role"]).all()
    labels = pd.read_csv(cohort_folder / "labels.csv").melt(["case_id", "slide_id"], var_name="task")
    merged = table.merge(labels, on=["slide_id", "task"])
    assert (merged["target"] == merged["value"]).all()
    assert table["probability"].between(0, 1).all()
    assert set(table["role"]) == {"val", "test"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--models", "amli"), "unknown model 'amli'. Did you mean 'amil'?"),
        (("run", "--datasets", "digts"), "unknown dataset 'digts'. Did you mean 'digits'?"),
        (("plan", "--datasets", "tcga-*"), "tcga-gbmlgg: no data root was given"),
        (("run", "--set", "trainer.epoch=2"), "unknown trainer setting 'epoch'. Did you mean 'epochs'?"),
        (("run", "--set", "trainr.epochs=2"), "unknown configuration key 'trainr'. Did you mean 'trainer'?"),
        (("run", "--set", "model.m4.expert=2"), "unknown argument of model 'm4' 'expert'. Did you mean 'experts'?"),
        (("run", "--protocol", "m5"), "unknown protocol 'm5'"),
        (("run", "--device", "cuda:9"), "device 'cuda:9' cannot be used here"),
        (("run", "--device", "gpu"), "device 'gpu' cannot be used here"),
        (("run", "--workers", "-1"), "engine.workers is -1"),
        (("run", "--threads", "0"), "engine.threads is 0"),
        (("run", "--tasks", "has_00"), "unknown task 'has_00'. Did you mean 'has_0'?"),
        (("run", "--folds", "x"), "--folds takes numbers"),
        (("run", "--folds", "9"), "unknown fold of digits '9'"),
        (("run", "--folds", "4-0"), "--folds takes numbers or ranges"),
        (("run", "--epochs=2"), "milbench run has no --epochs, which is a setting: write --set trainer.epochs=2"),
        (("run", "digits"), "milbench run does not know what to do with 'digits'"),
        (
            ("data", "inspect", ".", "--lables", "x"),
            "unknown option of milbench data inspect '--lables'. Did you mean '--labels'?",
        ),
        (("run", "--memory", "16"), "--memory 16 is 16 B"),
        (("run", "--trial-timeout", "nan"), "engine.trial_timeout is nan; expected a finite number"),
        (("run", "--set", "trainer.lr=nan"), "trainer.lr is nan; expected a finite number"),
        (("run", "--address", "tcp://h:1"), "Add --engine dask"),
        (("run", "--per-gpu", "3"), "Add --gpus all"),
        (("run", "--engine", "slurm", "--set", "engine.slurm.jobs=0"), "engine.slurm.jobs is '0'"),
        (("run", "--engine", "slurm", "--set", "engine.slurm.jobs=many"), "engine.slurm.jobs is 'many'"),
        (("run", "--models", "amil", "--engine", "slurm", "--set", "engine.slurm.cluster=locl"), "engine.slurm: "),
        (("run", "--seeds", "4.5"), "--seeds takes numbers"),
        (("run", "--cohort", "nowhere"), "nowhere does not exist"),
        (("run", "--config", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("run", "--plugin", "nowhere.py"), "plug-in nowhere.py does not exist"),
        (("run", "--splits", "kfolds"), "neither kfold, m4, site nor a file or folder"),
        (("report",), "there is no run in runs/"),
        (("report", "nowhere"), "nowhere holds no run"),
        (("track", "nowhere"), "nowhere holds no run"),
        (("ui",), "nothing has been tracked"),
        (("rnu",), "invalid choice: 'rnu'"),
        (("run", "--wrokers", "2"), "unknown option of milbench run '--wrokers'. Did you mean '--workers'?"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_two(
    milbench_here: Milbench, words: tuple[str, ...], message: str
) -> None:
    result = milbench_here(*words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def break_one_file(folder: Path, how: str) -> Path:
    path = files(folder)[5]
    if how == "corrupt":
        path.write_bytes(b"\x89HDF\r\n\x1a\n garbage")
    elif how == "unreadable":
        path.unlink()
        path.mkdir()
    elif how == "pickled":
        pt = path.with_suffix(".pt")
        for other in files(folder):
            with h5py.File(other) as file:
                torch.save(torch.from_numpy(file["features"][()]), str(other).removesuffix(".h5") + ".pt")
            other.unlink()
        torch.save({"a": Path("x")}, pt)
        return pt
    else:
        arrays = {
            "width": np.zeros((3, WIDTH + 2)), "nan": np.full((3, WIDTH), np.nan),
            "infinite": np.full((3, WIDTH), np.inf), "empty": np.zeros((0, WIDTH)),
        }  # fmt: skip
        path.unlink()
        write_h5(path, arrays[how].astype(np.float32))
    return path


@pytest.mark.parametrize("how", ["corrupt", "unreadable", "pickled", "width", "nan", "infinite", "empty"])
def test_a_bad_feature_file_is_named_and_finished_trials_are_kept(
    milbench_here: Milbench, ran: Path, tmp_path: Path, how: str
) -> None:
    words = one_fold(ran)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "trials").rglob("*.parquet")}
    assert len(before) == 4
    bad = break_one_file(tmp_path / ran, how)
    result = milbench_here(*words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert bad.name.removesuffix(bad.suffix) in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_missing_slides_are_skipped_and_counted_only_when_asked(milbench_here: Milbench, cohort_folder: Path) -> None:
    files(cohort_folder)[0].unlink()
    shutil.copy(files(cohort_folder)[0], cohort_folder / "features" / "stray.h5")
    words = ("run", "--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1", *FAST)
    refused = milbench_here(*words)
    assert refused.returncode == 2
    assert "--allow-missing" in refused.stderr
    allowed = milbench_here(*words, "--allow-missing")
    assert allowed.returncode == 0, allowed.stderr
    assert "skipped: 1 labelled slides have no features" in allowed.stdout
    assert "skipped: 1 feature files have no label (stray)" in allowed.stdout


def test_a_task_with_one_class_in_the_test_set_warns_and_gets_no_auroc(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(cohort_folder / "labels.csv")
    table["RARE"] = 0
    table.loc[table["case_id"] == "TCGA-07", "RARE"] = 1
    table.to_csv(cohort_folder / "labels.csv", index=False)
    result = milbench_here(*one_fold(cohort_folder))
    assert result.returncode == 0, result.stderr
    assert "RARE has" in result.stdout
    notes = json.loads((tmp_path / "out" / "datasets.json").read_text())["toy"]["notes"]
    assert any("gets no test AUROC" in note or "cannot learn" in note for note in notes)
    from milbench.stats.scores import score_table, summary
    from milbench.store.run import open_run

    run = open_run(tmp_path / "out")
    scores = score_table([run])
    undefined = scores[scores["score"].isna()]
    assert set(undefined["task"]) <= {"RARE"}
    assert summary(scores)["n_undefined"].iloc[0] == len(undefined)


def test_a_run_folder_that_cannot_be_written_is_named(milbench: Milbench, cohort_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = milbench("run", "--run", "file/out", "--models", "tiny", "--cohort", str(cohort_folder), *FAST)
    assert result.returncode == 2
    assert "cannot write to file/out" in result.stderr
    assert "--run" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_stops_the_run_and_keeps_what_is_done(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    """The disk is full from the first weights on, as safetensors says it."""
    plugin = tmp_path / "full.py"
    plugin.write_text(
        Path(PLUGIN).read_text()
        + "\nimport safetensors, safetensors.numpy\n"
        + "def full(*_, **__):\n"
        + "    raise safetensors.SafetensorError('I/O error: No space left on device (os error 28)')\n"
        + "safetensors.numpy.save_file = full\n"
    )
    words = (
        "--models",
        "tiny",
        "--cohort",
        str(cohort_folder),
        "--folds",
        "0",
        "--run",
        "out",
        "--no-tracking",
        "--set",
        "trainer.epochs=1",
    )
    result = milbench("run", *words, "--workers", "2", "--plugin", str(plugin))
    assert result.returncode == 2, result.stdout + result.stderr
    assert "No space left on device" in result.stderr
    assert "Free space" in result.stderr
    assert not list((tmp_path / "out" / "trials").rglob("*.parquet"))


def test_another_protocol_in_the_same_folder_is_refused(milbench_here: Milbench, ran: Path) -> None:
    result = milbench_here(*one_fold(ran), "trainer.lr=0.5")
    assert result.returncode == 2
    assert "holds a run with other settings (trainer:" in result.stderr


@pytest.mark.slow
def test_models_can_join_a_run_later(milbench_here: Milbench, cohort_folder: Path) -> None:
    words = ("run", "--run", "out", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1", *FAST)
    milbench_here(*words, "--models", "tiny")
    result = milbench_here(*words, "--models", "tiny_multi")
    assert "Tiny multi" in result.stdout
    assert "│ Tiny " in result.stdout


def test_names_may_be_separated_by_commas_or_blanks(milbench_here: Milbench) -> None:
    outputs = [
        milbench_here("plan", "--models", *words).stdout for words in (("amil,m4",), ("amil", "m4"), ("amil,", "m4"))
    ]
    assert "33 trials" in outputs[0]
    tables = [[line for line in text.splitlines() if "│" in line] for text in outputs]
    assert tables[0] == tables[1] == tables[2]


def test_plan_says_what_would_run_and_writes_nothing(milbench_here: Milbench, tmp_path: Path) -> None:
    result = milbench_here("plan", "--models", "mean_pooling", "--set", "trainer.epochs=1")
    assert result.returncode == 0, result.stderr
    assert "30 trials, 30 to do; about" in result.stdout
    assert not (tmp_path / "runs").exists()


def test_models_and_datasets_are_listed(milbench_here: Milbench) -> None:
    models, datasets = milbench_here("models").stdout, milbench_here("datasets").stdout
    assert all(name in models for name in ("mean_pooling", "transmil", "mmoe_mp_amil", "m4"))
    assert all(name in datasets for name in ("digits", "tcga-gbmlgg", "tcga-luad", "KEAP1"))


@pytest.mark.usefixtures("ran")
def test_a_saved_run_yaml_repeats_the_run(milbench_here: Milbench) -> None:
    again = milbench_here("run", "--config", "out/run.yaml")
    assert again.returncode == 0, again.stderr
    assert "2 trials done before" in again.stdout


@pytest.mark.slow
def test_a_changed_model_file_with_the_same_version_is_noticed(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(Path(PLUGIN).read_text())
    words = ("run", "--run", "out", "--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1", "--no-tracking",
             "--set", "trainer.epochs=1", "--plugin", str(plugin))  # fmt: skip
    milbench(*words)
    plugin.write_text(plugin.read_text() + "\n# another text\n")
    result = milbench(*words)
    assert "2 finished trials of 'tiny' were made by another text" in result.stdout
    assert "2 trials done before" in result.stdout


def test_the_launcher_is_installed_and_executable() -> None:
    launcher = Path(sys.executable).parent / "milbench"
    assert launcher.stat().st_mode & stat.S_IXUSR


def test_a_run_that_is_stopped_or_a_shard_says_what_comes_next(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("run", "--models", "tiny", "--cohort", str(cohort_folder), "--folds", "0", "1", *FAST, "--workers", "1")
    own = milbench_here(*words, "--shard", "1/2", "--run", "mine")
    assert "next: milbench merge WHOLE mine and the folders of the other shards" in own.stdout
    shard = milbench_here(*words, "--shard", "2/2")
    assert shard.returncode == 0, shard.stderr
    assert re.search(r"next: milbench merge (runs/toy\S*) \1-shard-\*-of-2, when all are here", shard.stdout)


def test_a_report_of_half_a_run_warns_and_names_who_is_missing(milbench_here: Milbench, tmp_path: Path) -> None:
    run = make_run(tmp_path / "half", models=("amil", "dsmil"))
    for trial in run.trials():
        if trial.info["model"] == "dsmil":
            shutil.rmtree(trial.path)
    reported = milbench_here("report", str(run.path), "--out", "out", "--draws", "100", "--no-tracking")
    assert reported.returncode == 0, reported.stderr
    n = len(run.planned())
    assert f"warning: {n // 2} of {n} planned trials of {run.path} are done; none of dsmil." in reported.stderr


def test_the_end_of_watching_is_not_the_end_of_the_run(
    milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "half", models=("amil",))
    shutil.rmtree(run.trials()[0].path)

    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", ctrl_c)
    watched = milbench_here("status", str(run.path), "--watch")
    assert (watched.returncode, watched.stderr) == (0, "")


def test_folds_and_seeds_named_twice_are_one(milbench_here: Milbench, cohort_folder: Path) -> None:
    words = ("--models", "tiny", "--cohort", str(cohort_folder), *FAST, "--workers", "1", "--run", "out")
    ran = milbench_here("run", *words, "--folds", "0-1", "1-1", "--seeds", "1", "1")
    assert ran.returncode == 0, ran.stderr
    assert "4 trials done" in ran.stdout


@pytest.mark.slow
def test_no_more_workers_start_than_there_is_work(milbench_here: Milbench, cohort_folder: Path) -> None:
    words = ("--models", "tiny_multi", "--cohort", str(cohort_folder), *FAST, "--run", "out")
    ran = milbench_here("run", *words, "--folds", "0-2", "--workers", "9")
    assert ran.returncode == 0, ran.stderr
    assert "3 trials, 3 workers" in ran.stdout


@pytest.mark.parametrize(("draws", "told"), [("99", "Give 100 or more"), ("1000000000000", "Give 1,000,000 or fewer")])
def test_a_number_of_draws_that_makes_no_interval_or_no_end_is_refused(
    milbench_here: Milbench, draws: str, told: str
) -> None:
    result = milbench_here("report", "nowhere", "--draws", draws)
    assert result.returncode == 2
    assert f"--draws is {draws}. {told}" in result.stderr


@pytest.mark.parametrize(
    "words", [("report", "--out", ""), ("status", ""), ("data", "pack", "c", "--out", "a\0b", "--dtype", "float16")]
)
def test_a_path_that_names_nothing_is_refused_where_it_stands(words: tuple[str, ...]) -> None:
    """An empty one would be the current folder, and most likely is a variable that is not set."""
    with pytest.raises(UsageError, match=r"names no file or folder\. Write it out, or leave the flag away"):
        parser().parse_args(words)
