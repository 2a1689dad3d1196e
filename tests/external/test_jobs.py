"""SLURM jobs score parts of the trials: the same bytes as one process, and one message if a job dies or is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from external_for_tests import cohort_of_kinds

from milbench.cohorts.cohort import folder_cohort
from milbench.commands.cli import main
from milbench.engines import slurm
from milbench.external.evaluate import checked, scored
from milbench.external.scored import external_folder
from milbench.external.trained import trained
from milbench.store.run import open_run

HERE = ("--engine", "slurm", "--workers", "1", "--set", "engine.slurm.cluster=local", "engine.slurm.jobs=2")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_of_kinds(tmp_path_factory.mktemp("jobs") / "jobs", "jobs", first=1000, patients=40)


def stored(run: Path) -> dict[str, bytes]:
    """Bytes of what every trial says of the cohort."""
    folder = external_folder(open_run(run), "jobs")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("predictions.parquet")}


class JobsHere:
    """Stands for submitit: the jobs run in this process, at once; those of `dies` die."""

    def __init__(self, dies: tuple[int, ...]) -> None:
        self.dies, self.numbers = dies, list[int]()

    def map_array(self, work: Callable[[int], str], numbers: range) -> list[SimpleNamespace]:
        self.numbers += numbers
        return [self._ended(work, number) for number in numbers]

    def _ended(self, work: Callable[[int], str], number: int) -> SimpleNamespace:
        died = RuntimeError("killed") if number in self.dies else None
        message = "" if died else work(number)
        return SimpleNamespace(
            done=lambda: True, exception=lambda: died, result=lambda: message, stderr=lambda: "oom-kill\n"
        )


def jobs_here(monkeypatch: pytest.MonkeyPatch, *dies: int) -> JobsHere:
    executor = JobsHere(dies)
    monkeypatch.setattr(slurm, "make_executor", lambda *_: executor)
    return executor


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_jobs_store_the_same_bytes_as_one_process(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    *, real: bool,
) -> None:  # fmt: skip
    if not real:
        jobs_here(monkeypatch)
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    scored(checked(trained(open_run(alone)), folder_cohort(cohort)), "cpu", lambda slides, *_: slides)
    words = ("--cohort", str(cohort), "--draws", "100", "--reference", "tiny", *HERE)
    assert main(["evaluate", str(run), *words]) == 0
    printed = capsys.readouterr().out
    assert "SLURM jobs: 2; trials that they score: 12; logs: " in printed
    assert "12 trials scored 40 slides" in printed
    assert (external_folder(open_run(run), "jobs") / "index.md").exists()
    assert stored(run) == stored(alone)


@pytest.mark.slow
def test_a_job_that_dies_is_one_message_and_only_its_part_is_scored_again(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs_here(monkeypatch, 1)
    words = ("--cohort", str(cohort), "--draws", "100", "--reference", "tiny", *HERE)
    assert main(["evaluate", str(run), *words]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "1 of 2 SLURM jobs died, the first with: oom-kill. What the jobs stored is kept" in error
    executor = jobs_here(monkeypatch)
    assert main(["evaluate", str(run), *words]) == 0
    assert "SLURM jobs: 1; trials that they score: 6; logs: " in capsys.readouterr().out
    assert executor.numbers == [0]


def test_bad_input_that_a_job_finds_is_the_command_s_message(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs_here(monkeypatch)
    monkeypatch.setattr("milbench.external.jobs.on_this_node", lambda _: trained(open_run(run), "another"))
    assert main(["evaluate", str(run), "--cohort", str(cohort), *HERE]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "another" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard", "1/2"), "gives each of its jobs a part of the trials. Leave --shard 1/2 out"),
        (("--set", "trainer.epochs=2"), "--set of evaluate takes settings of SLURM, such as engine.slurm.jobs=8"),
    ],
)
def test_what_does_not_go_with_jobs_is_refused(
    run: Path, cohort: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main(["evaluate", str(run), "--cohort", str(cohort), *HERE, *words]) == 2
    assert message in capsys.readouterr().err
