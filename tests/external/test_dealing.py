"""Slides dealt to workers, trials dealt to shards: the same bytes as one process, and no slide read twice."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import pytest
from external_for_tests import cohort_of_kinds

from milbench import datasets
from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.commands.cli import main
from milbench.datasets import all_datasets
from milbench.engines.loky import NoWorkersError
from milbench.engines.settings import PoolSettings
from milbench.engines.shards import Shard, ShardRecord, every_slot, write_record
from milbench.errors import DataError, MilbenchError
from milbench.external.dealing import Dealer, deal_of
from milbench.external.evaluate import External, checked, scored
from milbench.external.scored import RECORD, adopt_scores, external_folder
from milbench.external.trained import trained
from milbench.store.run import open_run

pytestmark = pytest.mark.slow  # the run that all of them read takes 20 s


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_of_kinds(tmp_path_factory.mktemp("dealt") / "dealt", "dealt", first=1000, patients=40)


def external_of(run: Path, cohort: Cohort) -> External:
    return checked(trained(open_run(run)), cohort)


def stored(run: Path) -> dict[str, bytes]:
    """Bytes of what every trial says of the cohort."""
    folder = external_folder(open_run(run), "dealt")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("predictions.parquet")}


def silent(slides: object, _: str) -> object:
    return slides


def on_threads(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[], None] = lambda: None) -> list[int]:
    """Let threads stand for processes, which take seconds to start; returns how many are started each time."""
    started: list[int] = []

    @contextmanager
    def submitting(_: Dealer, width: int) -> Iterator[object]:
        started.append(width)
        wrong()
        with ThreadPoolExecutor(1) as executor:
            yield executor.submit

    monkeypatch.setattr(Dealer, "_submitting", submitting)
    return started


def dealer(run: Path) -> Dealer:
    return Dealer(PoolSettings(run, workers=2, device="cpu"), pytest.fail)


@pytest.mark.slow
def test_dealt_slides_have_the_same_bytes_and_are_read_once(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = on_threads(monkeypatch)
    whole, seen = folder_cohort(cohort), []

    def load(slide: str) -> object:
        seen.append(slide)
        return whole.load(slide)

    noted = Cohort(**{**vars(whole), "load": load})
    assert scored(external_of(run, noted), "cpu", silent, dealer(run)).n_new == 12
    assert sorted(seen) == sorted(whole.slides["slide_id"])
    assert started == [2]
    alone = Path(shutil.copytree(run, tmp_path / "alone", ignore=shutil.ignore_patterns("external")))
    scored(external_of(alone, whole), "cpu", silent)
    assert stored(run) == stored(alone)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [("--workers", "2"), ("--engine", "dask", "--workers", "2")])
def test_worker_processes_write_the_same_bytes(
    run: Path, cohort: Path, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    words = ("--cohort", str(cohort), "--draws", "100", "--reference", "tiny")
    assert main(["evaluate", str(alone), *words, "--workers", "1"]) == 0
    assert main(["evaluate", str(run), *words, *engine]) == 0
    assert stored(run) == stored(alone)


PLUGIN = """
from pathlib import Path

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.datasets import register_dataset

FOLDER = folder_cohort(Path({folder!r}))

def load(slide):
    return FOLDER.load(slide)

@register_dataset("dealt")
def dealt():
    return Cohort(**{{**vars(FOLDER), "load": load}})
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_dataset_of_a_plug_in_is_scored_as_its_folder_also_by_workers(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(all_datasets()))
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    scored(external_of(alone, folder_cohort(cohort)), "cpu", silent)
    plugin = tmp_path / "theirs.py"
    plugin.write_text(PLUGIN.format(folder=str(cohort)))
    words = ("--cohort", "dealt", "--plugin", str(plugin), "--shard", "1/1", "--workers", str(workers))
    assert main(["evaluate", str(run), *words]) == 0
    assert stored(run) == stored(alone)


def killing(cohort: Cohort, deaths: int, seen: list[str]) -> Cohort:
    """The cohort, whose slide 1013 ends its worker so many times; loads of all others are noted."""
    left = [deaths]

    def load(slide: str) -> object:
        if slide == "dealt-1013" and left[0]:
            left[0] -= 1
            raise BrokenProcessPool
        seen.append(slide)
        return cohort.load(slide)

    return Cohort(**{**vars(cohort), "load": load})


def test_a_worker_that_dies_once_is_told_and_every_slide_is_scored(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, said = on_threads(monkeypatch), list[str]()
    deal = Dealer(PoolSettings(run, workers=2, device="cpu"), said.append)
    assert scored(external_of(run, killing(folder_cohort(cohort), 1, [])), "cpu", silent, deal).n_new == 12
    assert said == [
        "a worker that scored slides was killed, probably because memory ran out. The 5 slides that workers had are scored "
        "again, one at a time. Then the others, with --workers 1. Next time give fewer from the start."
    ]
    assert started == [2, 1, 1]  # the second for the slides that are scored alone
    alone = Path(shutil.copytree(run, tmp_path / "alone", ignore=shutil.ignore_patterns("external")))
    scored(external_of(alone, folder_cohort(cohort)), "cpu", silent)
    assert stored(run) == stored(alone)


def test_a_slide_that_kills_its_worker_twice_is_named_and_what_is_scored_is_kept(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads(monkeypatch)
    whole, seen = folder_cohort(cohort), list[str]()
    deal = Dealer(PoolSettings(run, workers=2, device="cpu"), lambda _: None)
    with pytest.raises(MilbenchError, match=r"^slide dealt-1013 killed the worker that scored it twice"):
        scored(external_of(run, killing(whole, 2, seen)), "cpu", silent, deal)
    before, seen[:] = set(seen), []
    scored(external_of(run, killing(whole, 0, seen)), "cpu", silent, deal)
    assert len(before) > 10
    assert sorted(seen) == sorted(set(whole.slides["slide_id"]) - before)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [(), ("--engine", "dask")])
@pytest.mark.parametrize("dies", ["once", "always"])
def test_killed_worker_processes_give_way_to_others(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    dies: str, engine: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr(datasets, "_CATALOGUE", dict(all_datasets()))
    plugin = tmp_path / "theirs.py"
    plugin.write_text(PLUGIN.format(folder=str(cohort)).replace("    return FOLDER", KILL.format(dies=dies)))
    words = ("--cohort", "dealt", "--plugin", str(plugin), "--shard", "1/1", "--workers", "2", *engine)
    code = main(["evaluate", str(run), *words])
    errors = capsys.readouterr().err
    assert "a worker that scored slides was killed, probably because memory ran out" in errors
    if dies == "always":
        assert code == 2
        assert "slide dealt-1013 killed the worker that scored it twice" in errors
        return
    alone = Path(shutil.copytree(run, tmp_path / "alone", ignore=shutil.ignore_patterns("external")))
    scored(external_of(alone, folder_cohort(cohort)), "cpu", silent)
    assert code == 0
    assert stored(run) == stored(alone)


KILL = """    import os, signal
    mark = Path(__file__ + ".died")
    if slide == "dealt-1013" and ("{dies}" == "always" or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return FOLDER"""


def test_what_is_wrong_with_a_slide_is_said_as_without_workers(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads(monkeypatch)

    def load(slide: str) -> object:
        raise DataError(f"slide {slide} is damaged")

    noted = Cohort(**{**vars(folder_cohort(cohort)), "load": load})
    with pytest.raises(DataError, match="slide dealt-1000 is damaged"):
        scored(external_of(run, noted), "cpu", silent, dealer(run))


def test_what_a_worker_did_not_expect_is_one_message_with_the_slides(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads(monkeypatch)

    def load(slide: str) -> object:
        raise RuntimeError("no route to host")

    noted = Cohort(**{**vars(folder_cohort(cohort)), "load": load})
    with pytest.raises(
        MilbenchError, match=r"slides dealt-1000 to dealt-1004 could not .* \(RuntimeError: no route to host\)"
    ):
        scored(external_of(run, noted), "cpu", silent, dealer(run))


def test_a_machine_that_starts_no_workers_scores_in_this_process(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise NoWorkersError("no space left on device")

    on_threads(monkeypatch, refused)
    said: list[str] = []
    deal = Dealer(PoolSettings(run, workers=2, device="cpu"), said.append)
    assert scored(external_of(run, folder_cohort(cohort)), "cpu", silent, deal).n_new == 12
    assert said == [
        "no worker processes can be started (no space left on device), so all slides are scored in this process."
    ]


@pytest.mark.parametrize(
    ("asked", "n_slides", "workers"), [(0, 99, None), (0, 150, 2), (0, 5000, 8), (3, 10, 3), (1, 5000, None)]
)
def test_workers_start_only_if_slides_keep_them_busy(asked: int, n_slides: int, workers: int | None) -> None:
    settings = PoolSettings(Path("run"), workers=asked or 8, device="cpu")
    deal = deal_of(settings, asked=asked, n_slides=n_slides, announce=print)
    assert (deal.settings.workers if isinstance(deal, Dealer) else None) == workers


# ---- shards ------------------------------------------------------------------------------------------


def test_shards_on_one_folder_score_each_trial_once_and_the_whole_command_joins_them(
    run: Path, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run), "--cohort", str(cohort)]
    for number in (1, 2):
        assert main([*words, "--shard", f"{number}/2"]) == 0
        printed = capsys.readouterr().out
        assert "6 trials scored 40 slides\n" in printed
        assert f"shard {number}/2 is scored" in printed
        assert not (external_folder(open_run(run), "dealt") / "index.md").exists()
    scores = scored(external_of(run, folder_cohort(cohort)), "cpu", silent)
    assert (len(scores.trials), scores.n_new) == (12, 0)


def test_a_shard_that_was_not_merged_is_a_part_of_its_run(run: Path, tmp_path: Path) -> None:
    copy = open_run(Path(shutil.copytree(run, tmp_path / "shard", ignore=shutil.ignore_patterns("external"))))
    plan = copy.planned()
    mine = {slot: trial for slot, trial in plan.items() if not slot.endswith("fold1-seed42")}
    assert 0 < len(mine) < len(plan)
    (copy.path / "plan.json").write_text(json.dumps(mine))
    assert trained(copy).n_planned == len(mine)
    write_record(copy, ShardRecord(1, 2, plan, tuple(mine)))
    assert trained(copy).n_planned == len(plan)
    assert {slot.trial_id for slot in every_slot(copy)} == set(plan.values())


def test_every_trial_is_in_one_shard_whatever_is_scored_already(run: Path) -> None:
    source = trained(open_run(run))
    parts = [source.of_shard(Shard(number, 5)).trials for number in range(1, 6)]
    assert sorted(trial.id for part in parts for trial in part) == sorted(trial.id for trial in source.trials)
    assert {len(part) for part in parts} == {2, 3}
    models = [{trial.info["model"] for trial in part} for part in parts]
    assert all("tiny" in part for part in models)


def test_merge_takes_scores_along_that_are_whole_and_not_there(run: Path, cohort: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    for folder, number in ((run, 1), (other, 2)):
        source = trained(open_run(folder)).of_shard(Shard(number, 2))
        scored(checked(source, folder_cohort(cohort)), "cpu", silent)
    damaged = next(external_folder(open_run(other), "dealt").rglob("predictions.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert adopt_scores(open_run(run), open_run(other)) == 5
    assert adopt_scores(open_run(run), open_run(other)) == 0
    assert len(list(external_folder(open_run(run), "dealt").rglob(RECORD))) == 11
    assert scored(external_of(run, folder_cohort(cohort)), "cpu", silent).n_new == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine", "slurm"), "--engine slurm found no `sbatch` on this machine"),
        (("--shard", "3/2"), "--shard takes i/n with i from 1 to n, such as 2/4; got '3/2'"),
        (("--threads", "0"), "engine.threads is 0; the least is 1"),
        (("--address", "tcp://h:1"), "Add --engine dask"),
    ],
)
def test_one_message_says_what_is_wrong_with_an_engine(
    run: Path, cohort: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main(["evaluate", str(run), "--cohort", str(cohort), *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
