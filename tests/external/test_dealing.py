"""Slides dealt to workers, trials dealt to shards: the same bytes as one process, and no slide read twice."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import pytest
from external_for_tests import cohort_of_kinds, run_of_kinds

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.commands.cli import main
from milbench.engines.loky import NoWorkersError
from milbench.engines.settings import PoolSettings
from milbench.engines.shards import Shard, ShardRecord, every_slot, write_record
from milbench.errors import DataError, MilbenchError
from milbench.external.dealing import Dealer, deal_of
from milbench.external.evaluate import External, checked, scored
from milbench.external.scored import RECORD, adopt_scores, external_folder
from milbench.external.trained import trained
from milbench.store.run import open_run


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_of_kinds(tmp_path_factory.mktemp("dealt") / "dealt", "dealt", first=1000, patients=40)


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the run, to write into."""
    whole = run_of_kinds(tmp_path_factory)
    return Path(shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("external")))


def external_of(run: Path, cohort: Cohort) -> External:
    return checked(trained(open_run(run)), cohort)


def stored(run: Path) -> dict[str, bytes]:
    """Bytes of what every trial says of the cohort."""
    folder = external_folder(open_run(run), "dealt")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("predictions.parquet")}


def silent(slides: object, _: str) -> object:
    return slides


def on_threads(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[], None] = lambda: None) -> None:
    """Let threads stand for processes, which take seconds to start."""

    @contextmanager
    def submitting(_: Dealer) -> Iterator[object]:
        wrong()
        with ThreadPoolExecutor(1) as executor:
            yield executor.submit

    monkeypatch.setattr(Dealer, "_submitting", submitting)


def dealer(run: Path) -> Dealer:
    return Dealer(PoolSettings(run, workers=2, device="cpu"), pytest.fail)


def test_dealt_slides_have_the_same_bytes_and_are_read_once(
    run: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads(monkeypatch)
    whole, seen = folder_cohort(cohort), []

    def load(slide: str) -> object:
        seen.append(slide)
        return whole.load(slide)

    noted = Cohort(**{**vars(whole), "load": load})
    assert scored(external_of(run, noted), "cpu", silent, dealer(run)).n_new == 12
    assert sorted(seen) == sorted(whole.slides["slide_id"])
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


def test_a_killed_worker_is_told_and_what_it_sent_before_is_kept(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.external.scoring.CHECKPOINT_SECONDS", 0.0)
    on_threads(monkeypatch)
    whole, seen = folder_cohort(cohort), []

    def load(slide: str) -> object:
        if len(seen) == 20:
            raise BrokenProcessPool
        seen.append(slide)
        return whole.load(slide)

    noted = Cohort(**{**vars(whole), "load": load})
    with pytest.raises(MilbenchError, match=r"a worker that scored slides was killed .* with fewer workers"):
        scored(external_of(run, noted), "cpu", silent, dealer(run))
    before, seen[:] = len(seen), []
    noted = Cohort(**{**vars(whole), "load": lambda slide: seen.append(slide) or whole.load(slide)})
    scored(external_of(run, noted), "cpu", silent, dealer(run))
    assert len(whole.slides) - before <= len(seen) < len(whole.slides)


def test_what_is_wrong_with_a_slide_is_said_as_without_workers(
    run: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_threads(monkeypatch)

    def load(slide: str) -> object:
        raise DataError(f"slide {slide} is damaged")

    noted = Cohort(**{**vars(folder_cohort(cohort)), "load": load})
    with pytest.raises(DataError, match="slide dealt-1000 is damaged"):
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
        (("--engine", "slurm"), "--engine slurm trains, but does not score"),
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
