"""A run folder that is harmed, and what a command may do with it: exit 2 with a message, or give a right result."""

from __future__ import annotations

import resource
import shutil
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from weighted_runs_for_tests import MODELS, ONE_EPOCH, slide_name

from milbench.commands.cli import main
from milbench.stats.metric import AUROC
from milbench.store.run import open_run

MOST_SECONDS, MOST_BYTES = 60, 1_000_000_000

COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status", "{run}"),
    "merge": ("merge", "{out}", "{run}"),
    "report": ("report", "{run}", "--no-tracking", "--draws", "100", "--out", "{out}"),
    "track": ("track", "{run}", "--uri", "sqlite:///{here}/mlflow.db"),
    "heatmap": ("heatmap", "{run}", "--slide", slide_name(3), "--models", "amil", "--out", "{out}"),
    "run": ("run", "--cohort", "{cohort}", "--models", *MODELS, "--run", "{run}", *ONE_EPOCH),
}
SCORE = ["dataset", "model", "task", "fold", "seed", "auroc"]


class Hostile:
    """A whole run, a copy of which is harmed, and one command tried on the copy.

    Attributes
    ----------
    counts : commands by name and outcome ("refused", "right").
    """

    def __init__(self, whole: Path, cohort: Path, database: Path, here: Path) -> None:
        self.whole, self.cohort, self.database, self.here = whole, cohort, database, here
        self.run, self.out = here / "foreign" / whole.name, here / "out"
        self.intact = results(whole)
        self.scores = scores(whole)
        self.counts: Counter[tuple[str, str]] = Counter()

    def fresh(self) -> Path:
        """A new copy of the run."""
        for folder in (self.run, self.out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.whole, self.run)
        shutil.copy(self.database, self.here / "mlflow.db")
        return self.run

    def try_command(self, name: str, capsys: pytest.CaptureFixture[str]) -> str:
        """How the command ended: "refused" or "right"; fails for anything else."""
        places = {"run": self.run, "out": self.out, "here": self.here, "cohort": self.cohort}
        started, before = time.monotonic(), _peak_bytes()
        code = main([word.format(**places) for word in COMMANDS[name]])
        printed = capsys.readouterr()
        assert time.monotonic() - started < MOST_SECONDS
        assert _peak_bytes() - before < MOST_BYTES
        outcome = "refused" if code == 2 else "right"
        if code == 2:
            assert printed.err.startswith("milbench: ")
            assert "Traceback" not in printed.err
        else:
            assert code in {0, 3}, printed.err
            self._assert_right(name)
        self.counts[name, outcome] += 1
        return outcome

    def _assert_right(self, name: str) -> None:
        """What the command counts is what the whole run holds; after `run` it is all of that."""
        counted = results(self.out if name == "merge" else self.run)
        assert counted.items() <= self.intact.items()
        if name == "run":
            assert counted == self.intact
        if name == "report":
            assert scores_in(self.out) <= self.scores


def results(run: Path) -> dict[str, bytes]:
    """Predictions of the trials that count, by id."""
    return {trial.id: (trial.path / "predictions.parquet").read_bytes() for trial in open_run(run).trials()}


def scores(run: Path) -> set[tuple[object, ...]]:
    from milbench.stats.scores import score_table

    return _as_set(AUROC.as_written(score_table([open_run(run)])))


def scores_in(report: Path) -> set[tuple[object, ...]]:
    return _as_set(pd.read_csv(report / "data" / "scores.csv"))


def _as_set(table: pd.DataFrame) -> set[tuple[object, ...]]:
    return {
        (*row[:-1], round(row[-1], 9) if row[-1] == row[-1] else None)
        for row in table[SCORE].itertuples(index=False, name=None)
    }


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
