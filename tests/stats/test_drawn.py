"""Bootstraps of a dataset side by side: the same draws from any number of processes, and those of one task alone."""

import numpy as np
import pytest
from kinds_for_tests import make_run_of_kinds

from milbench.endpoints.endpoint import KINDS, Kind
from milbench.process import forked
from milbench.stats.across import cohort_draws
from milbench.stats.crossed import crossed_draws, generator
from milbench.stats.drawn import drawn
from milbench.stats.grid import Grid, grids

DRAWS, SEED = 60, 3


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies also if another test left a thread behind; drawing uses nothing of it."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)


@pytest.fixture(scope="module")
def grid_of(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Grid]:
    run = make_run_of_kinds(tmp_path_factory.mktemp("runs") / "kinds").snapshot()
    return {kind: grids([run], kind)[0] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_draws_are_those_of_each_task_alone(grid_of: dict[Kind, Grid], kind: Kind, processes: int) -> None:
    grid = grid_of[kind]
    tasks = {name: grid.task(name) for name in grid.tasks}
    by_task, of_cohort = drawn("toy", tasks, list(tasks), DRAWS, SEED, processes=processes)
    assert list(by_task) == list(tasks)
    for name, task in tasks.items():
        alone = crossed_draws(task, generator(SEED, "toy", name), DRAWS)
        np.testing.assert_array_equal(by_task[name], alone[:0] if task.too_small else alone)
    together = cohort_draws(list(tasks.values()), generator(SEED, "toy"), DRAWS)
    too_small = all(task.too_small for task in tasks.values())
    np.testing.assert_array_equal(of_cohort, together[:0] if too_small else together)


def test_without_a_task_that_counts_there_is_no_mean(grid_of: dict[Kind, Grid]) -> None:
    grid = grid_of["binary"]
    tasks = {name: grid.task(name) for name in grid.tasks}
    assert drawn("toy", tasks, [], DRAWS, SEED, processes=2).of_cohort.shape == (0, len(grid.models))
