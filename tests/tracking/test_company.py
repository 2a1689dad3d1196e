"""Several commands track one run folder, and nothing is doubled."""

from collections.abc import Mapping
from typing import Any

import pytest
from tracked_for_tests import killing, stored

from milbench.store.run import Run
from milbench.tracking.client import default_uri
from milbench.tracking.publisher import KIND, TRIAL_KEY, Publisher

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_two_commands_on_one_run_folder_double_nothing(run: Run) -> None:
    uri = default_uri(run.path.parent)
    mine, theirs = Publisher(uri, run), Publisher(uri, Run(run.path))
    for trial in run.trials():
        mine.publish(trial)
        theirs.publish(trial)
    assert len(stored(run)) == 2 + len(run.trials())


def test_what_another_command_left_half_written_meanwhile_is_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = default_uri(run.path.parent)
    mine, theirs = Publisher(uri, run), Publisher(uri, Run(run.path))
    first, second = run.trials()[:2]
    mine.publish(first)
    monkeypatch.setattr(theirs.client, "set_terminated", killing)
    with pytest.raises(KeyboardInterrupt):
        theirs.publish(second)
    mine.publish(second)
    children = [entry for entry in stored(run) if entry.data.tags[KIND] == "trial"]
    assert sorted(entry.data.tags[TRIAL_KEY] for entry in children) == sorted(t.info["key"] for t in (first, second))
    assert {entry.info.status for entry in children} == {"FINISHED"}


def test_trials_are_searched_for_only_where_another_command_tracks_the_run_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    find = Publisher._find

    def listened(self: Publisher, tags: Mapping[str, str]) -> list[Any]:
        searched.extend(value for name, value in tags.items() if name == TRIAL_KEY)
        return find(self, tags)

    monkeypatch.setattr(Publisher, "_find", listened)
    first, second, third = run.trials()[:3]
    mine = Publisher(default_uri(run.path.parent), run)
    mine.publish(first)
    assert not searched
    theirs = Publisher(default_uri(run.path.parent), run)
    for trial in (second, third):
        mine.publish(trial)
        assert searched, "the other may have written it"
        searched.clear()
        theirs.publish(trial)
        assert searched
        searched.clear()
