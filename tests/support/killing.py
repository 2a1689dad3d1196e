"""A command that is killed again and again, each time at another moment of its writing, until it may end.

Started as a program, so that the modules are imported once and each try is a fork: `killing.py KIND N SEED WORDS...`.
It prints a JSON object with the numbers of kills and of those that left something half-written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from milbench.commands.cli import main
from milbench.store.leftovers import leftovers

POLL_SECONDS = 0.0002
LONGEST_SECONDS = 120.0


def child(words: list[str]) -> int:
    """Process id of a fork that runs the command."""
    if pid := os.fork():
        return pid
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os._exit(main(words))


def is_writing(run: Path) -> bool:
    """Whether a checkpoint is half-written right now."""
    try:
        return any(entry.name.startswith(".") for entry in os.scandir(run / "checkpoints"))
    except FileNotFoundError:
        return False


def kill_once(kind: str, run: Path, words: list[str], moment: float) -> bool:
    """Whether the command was killed before it ended; `moment` from 0 to 1 says how late."""
    pid, started = child(words), time.monotonic()
    while time.monotonic() - started < LONGEST_SECONDS:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        # of the many checkpoints of a run any may be the one, so that each try gets further than the one before
        if is_writing(run) and random.random() < 0.2 if kind == "checkpoint" else time.monotonic() - started > moment:
            break
        time.sleep(POLL_SECONDS)
    time.sleep(random.random() * 0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def try_all(kind: str, n_kills: int, seed: int, run: Path, words: list[str]) -> dict[str, int]:
    random.seed(seed)
    import milbench.runs.benchmark
    import milbench.runs.merge  # noqa: F401 - imported once, for all forks

    killed = half_written = tries = 0
    while killed < n_kills and tries < 3 * n_kills:
        tries += 1
        killed += kill_once(kind, run, words, random.random() * 0.25)
        half_written += bool(leftovers(run))
    status = os.waitpid(child(words), 0)[1]
    return {
        "kills": killed,
        "half_written": half_written,
        "code": os.waitstatus_to_exitcode(status),
        "left": len(leftovers(run)),
    }


if __name__ == "__main__":
    kind, n_kills, seed, run, *words = sys.argv[1:]
    sys.stdout.write(json.dumps(try_all(kind, int(n_kills), int(seed), Path(run), words)) + "\n")
