"""Tracking while a run goes on: a server that is away disturbs nobody."""

import time

import pytest
from tracked_for_tests import stored

from milbench.errors import TrackingError
from milbench.store.run import Run
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
