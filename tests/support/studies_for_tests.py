"""A study of seconds, started as a process and compared byte for byte."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands_for_tests import FAST, command, environment

OF_THE_MACHINE = {"load_seconds", "train_seconds", "wall_seconds", "peak_bytes", "cost", "host", "finished_at"}
"""What trial.json holds beside the result: it may differ between two computations of one trial."""


WORDS = ("--models", "slow", "tiny_multi", "--folds", "0", "1", *FAST)


def results(run: Path) -> dict[str, Any]:
    """The bytes of every file of every trial, and trial.json without times and hosts."""
    found: dict[str, Any] = {}
    for path in run.glob("trials/*/*/*/*/*"):
        name = str(path.relative_to(run))
        if path.name == "trial.json":
            info = json.loads(path.read_text())
            found[name] = {key: value for key, value in info.items() if key not in OF_THE_MACHINE}
        else:
            found[name] = path.read_bytes()
    return found


def n_done(run: Path) -> int:
    return len(list(run.glob("trials/*/*/*/*/trial.json")))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Return when `condition` holds; fail when the process is over before that, or the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run_words(study: Path, *more: str) -> tuple[str, ...]:
    return ("run", "--run", "out", *WORDS, *more, "--cohort", str(study / "toy"))
