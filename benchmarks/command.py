"""`milbench run` as a user runs it: a process of its own, timed from outside, and what its trial.json files say."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import psutil

SAMPLE_SECONDS = 0.1

Watch = Callable[[psutil.Process], None]
"""Called with the running command every `SAMPLE_SECONDS`."""


class Finished(NamedTuple):
    """One finished run.

    Attributes
    ----------
    wall_seconds : of the whole command.
    startup_seconds : of a command with next to nothing to compute, run right after: imports, planning, starting workers.
        0 where none was given.
    trials : what every trial.json says.
    """

    wall_seconds: float
    startup_seconds: float
    trials: list[dict[str, Any]]

    @property
    def working_seconds(self) -> float:
        """Wall time without the start-up.

        Raises
        ------
        SystemExit : the start-up took as long as the whole, so nothing can be said of the work.
        """
        if self.wall_seconds <= self.startup_seconds:
            raise SystemExit(
                f"the run took {self.wall_seconds:.1f} s and the start-up alone {self.startup_seconds:.1f} s: "
                "the work is lost in the noise. Choose a larger cohort, more epochs or more tasks."
            )
        return self.wall_seconds - self.startup_seconds

    def models(self) -> list[str]:
        """Of the trials, each once."""
        return list(dict.fromkeys(trial["model"] for trial in self.trials))

    def train_seconds(self, model: str | None = None) -> float:
        """Sum over the trials, of one model or of all."""
        return sum(trial["train_seconds"] for trial in self._of(model))

    def bag_steps(self, model: str | None = None) -> int:
        """Training bags that the trials saw, of one model or of all, over all their epochs."""
        return sum(trial["n_slides"]["train"] * trial["n_epochs"] for trial in self._of(model))

    def _of(self, model: str | None) -> list[dict[str, Any]]:
        return [trial for trial in self.trials if model in {None, trial["model"]}]


def add_run_flags(parser: argparse.ArgumentParser, *, repetitions: int) -> None:
    """`--repetitions`, `--warm-ups`, `--milbench`."""
    parser.add_argument("--repetitions", type=int, default=repetitions, help=f"kept (default {repetitions})")
    parser.add_argument("--warm-ups", type=int, default=1, help="repetitions before them, dropped (default 1)")
    parser.add_argument(
        "--milbench",
        type=Path,
        default=Path(sys.executable).with_name("milbench"),
        metavar="PROGRAM",
        help="the command that is timed (default: that of this Python)",
    )


def run(
    program: Path,
    words: Sequence[str],
    *,
    startup: Sequence[str] = (),
    tracking: bool = False,
    watch: Watch | None = None,
) -> Finished:
    """`milbench run` in a fresh run folder, which is gone when this returns.

    Parameters
    ----------
    startup : words of a run with next to nothing to compute, which tells the start-up.
    tracking : log to an MLflow database of its own.

    Raises
    ------
    SystemExit : the command failed.
    """
    with tempfile.TemporaryDirectory(prefix="milbench-run-") as place:
        tracked = ["--tracking-uri", f"sqlite:///{place}/mlflow.db"] if tracking else ["--no-tracking"]
        wall = _seconds([str(program), "run", "--run", f"{place}/run", *words, *tracked], watch)
        tiny = [str(program), "run", "--run", f"{place}/tiny", *startup, *tracked]
        trials = [json.loads(path.read_text()) for path in sorted(Path(place).glob("run/trials/**/trial.json"))]
        return Finished(wall, _seconds(tiny, None) if startup else 0.0, trials)


def _seconds(command: Sequence[str], watch: Watch | None) -> float:
    with tempfile.TemporaryFile("w+") as said:
        started = perf_counter()
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
        while watch and process.poll() is None:
            watch(process)
            _wait(process, SAMPLE_SECONDS)
        process.wait()
        seconds = perf_counter() - started
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with exit code {process.returncode}:\n{said.read()[-3000:]}")
    return seconds


def _wait(process: psutil.Popen, seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except psutil.TimeoutExpired:
        return


def middle(runs: Sequence[Finished], value: Callable[[Finished], float]) -> float:
    """Median of `value` over the repetitions."""
    return median(value(each) for each in runs)
