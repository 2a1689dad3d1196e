"""Tracking while a run goes on: a server that is away disturbs nobody."""

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from filelock import FileLock
from tracked_for_tests import stored

from milbench.errors import TrackingError
from milbench.store.run import Run
from milbench.tracking import knock, tracker
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish
from milbench.tracking.publisher import KIND, TRIAL_KEY
from milbench.tracking.tracker import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_a_tracker_summarises_trials_that_another_command_published(run: Run) -> None:
    warnings: list[str] = []
    with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracker:
        tracker.log_trial(run.trials()[0])
    assert warnings == []
    parents = [entry for entry in stored(run) if entry.data.tags[KIND] == "parent"]
    assert len(parents) == 2
    assert all("test/auroc" in entry.data.metrics for entry in parents)


def test_the_tracker_publishes_in_the_background_what_it_is_given(run: Run) -> None:
    warnings: list[str] = []
    with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracker:
        started = time.perf_counter()
        for trial in run.trials():
            tracker.log_trial(trial)
        assert time.perf_counter() - started < 2, "logging must not make the run wait"
    assert warnings == []
    assert {r.data.tags[TRIAL_KEY] for r in stored(run) if TRIAL_KEY in r.data.tags} == {
        t.info["key"] for t in run.trials()
    }


def test_an_unreachable_server_is_one_warning_with_the_mend(run: Run) -> None:
    warnings: list[str] = []
    with Tracker("http://127.0.0.1:9", run, warn=warnings.append) as tracker:
        tracker.log_stored(run.trials())
    assert len(warnings) == 1
    assert f"milbench track {run.path} --uri http://127.0.0.1:9" in warnings[0]
    with pytest.raises(TrackingError, match="could not be written"):
        publish(run, "http://127.0.0.1:9")


def test_a_tracker_that_is_switched_off_does_nothing(run: Run) -> None:
    warnings: list[str] = []
    with Tracker("http://127.0.0.1:9", run, enabled=False, warn=warnings.append) as tracker:
        tracker.log_stored(run.trials())
    assert warnings == []


SHORT = 1.0


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second instead of five."""
    import mlflow  # noqa: F401 - its import is no part of what is measured

    monkeypatch.setattr(tracker, "SILENCE_SECONDS", SHORT)
    monkeypatch.setattr(knock, "KNOCK_SECONDS", SHORT)


def cost(run: Run, uri: str, *, within: float = 6 * SHORT) -> str:
    """The one warning of a run that is over at once, whose end must not wait for longer than `within` seconds."""
    warnings: list[str] = []
    with Tracker(uri, run, warn=warnings.append) as tracked:
        tracked.log_stored(run.trials())
        began = time.monotonic()
    assert time.monotonic() - began < within
    (warning,) = warnings
    assert f"milbench track {run.path} --uri {uri}" in warning
    return warning


@pytest.mark.usefixtures("short")
def test_a_server_that_takes_the_connection_and_says_nothing_costs_seconds(run: Run) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "no answer within 1 s" in cost(run, uri)
        with pytest.raises(TrackingError, match="no answer within 1 s"):
            publish(run, uri)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("drip head", "no answer within 1 s"),
        (("drip", 200), "could not be written"),
        (("endless", 200), "has no end"),
        (("endless", 503), "has no end"),
        ("drop", "could not be written"),
    ],
    ids=str,
)
def test_a_server_that_drips_or_never_ends_costs_seconds(run: Run, server: FakeServer, how: Any, reason: str) -> None:
    server.fail("/", *[how] * 100)
    assert reason in cost(run, server.url)
    assert server.sent_without_end < 20_000_000


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("how", ["drip head", ("drip", 200), "drop", 500, b"nonsense"], ids=str)
def test_a_server_that_is_lost_after_the_first_answer_costs_seconds(run: Run, server: FakeServer, how: Any) -> None:
    server.files["/health"] = b"OK"
    server.fail("/api", *[how] * 100)
    cost(run, server.url)


def test_a_folder_in_place_of_the_database_is_told_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "mlflow.db").mkdir(parents=True)
    uri = default_uri(tmp_path / "elsewhere")
    assert "is a folder, move it away" in cost(run, uri)
    with pytest.raises(TrackingError, match="is a folder"):
        publish(run, uri)


def test_another_file_in_place_of_the_database_is_told_at_once(run: Run) -> None:
    (run.path.parent / "mlflow.db").write_bytes(b"no database " * 100)
    assert "file is not a database" in cost(run, default_uri(run.path.parent))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another process that does not let go of the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.usefixtures("short")
def test_a_database_that_stays_locked_costs_seconds(run: Run) -> None:
    uri = default_uri(run.path.parent)
    with writing(run.path.parent / "mlflow.db"):
        assert "another process has held the lock on it for 1 s" in cost(run, uri)
    assert publish(run, uri) == 10


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("name", ["mlflow.lock", "toy/locks/mlflow.lock"])
def test_a_command_that_hangs_with_the_lock_in_its_hands_costs_seconds(run: Run, name: str) -> None:
    path = run.path.parent / name
    path.parent.mkdir(exist_ok=True)
    with FileLock(path, thread_local=False):
        cost(run, default_uri(run.path.parent))


@pytest.mark.usefixtures("short")
def test_a_database_that_is_locked_in_the_middle_costs_seconds(run: Run) -> None:
    warnings: list[str] = []
    first, *others = run.trials()
    with ExitStack() as lock:
        with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracked:
            tracked.log_trial(first)
            end = time.monotonic() + 60
            while tracked._queue.qsize():
                assert time.monotonic() < end
                time.sleep(0.1)
            lock.enter_context(writing(run.path.parent / "mlflow.db"))
            for trial in others:
                tracked.log_trial(trial)
            began = time.monotonic()
        assert time.monotonic() - began < 6 * SHORT
    assert len(warnings) == 1
    assert publish(run, default_uri(run.path.parent)) == 10


def test_one_trial_that_mlflow_refuses_does_not_stop_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = run.trials()[3]
    monkeypatch.setitem(odd.info, "wall_seconds", "unknown")
    warnings: list[str] = []
    with Tracker(default_uri(run.path.parent), run, warn=warnings.append) as tracked:
        for trial in run.trials():
            tracked.log_trial(odd if trial.id == odd.id else trial)
    (warning,) = warnings
    assert "refused 1 of the runs" in warning
    assert odd.id in warning
    tracked_keys = {r.data.tags[TRIAL_KEY] for r in stored(run) if TRIAL_KEY in r.data.tags}
    assert tracked_keys == {t.info["key"] for t in run.trials()} - {odd.info["key"]}
    assert {r.info.status for r in stored(run)} == {"FINISHED"}
