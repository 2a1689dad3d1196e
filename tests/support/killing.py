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
from typing import NamedTuple

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


class Place(NamedTuple):
    """Where a kind of file is written, and how likely one that is half-written is the one that the kill hits.

    Attributes
    ----------
    chance : 1 = the first one; less if each try should get further than the one before.
    """

    folder: str
    chance: float


PLACES = {
    "checkpoint": Place("checkpoints", 0.2),
    "content": Place("features", 1.0),
    "pack": Place("features", 0.5),
    "sources": Place("", 1.0),
}


def is_writing(folder: Path) -> bool:
    """Whether a file in the folder is half-written right now."""
    try:
        return any(entry.name.startswith(".") for entry in os.scandir(folder))
    except FileNotFoundError:
        return False


def is_the_moment(kind: str, run: Path, seconds: float, moment: float) -> bool:
    if kind not in PLACES:
        return seconds > moment
    place = PLACES[kind]
    return is_writing(run / place.folder) and random.random() < place.chance


def touch(cohort: Path, age: int) -> None:
    """Give each feature file another time, so that what is remembered of it is written anew."""
    for path in (cohort / "features").iterdir():
        os.utime(path, (10**9 + age, 10**9 + age))


def kill_once(kind: str, run: Path, words: list[str], moment: float) -> bool:
    """Whether the command was killed before it ended; `moment` from 0 to 1 says how late."""
    pid, started = child(words), time.monotonic()
    while time.monotonic() - started < LONGEST_SECONDS:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        if is_the_moment(kind, run, time.monotonic() - started, moment):
            break
        time.sleep(POLL_SECONDS)
    time.sleep(random.random() * 0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def left_in(folder: Path) -> list[Path]:
    """What dead processes left in a run or in a packed cohort, known to milbench or not."""
    return [*leftovers(folder), *folder.rglob(".*")]


def try_all(kind: str, n_kills: int, seed: int, run: Path, words: list[str]) -> dict[str, int]:
    random.seed(seed)
    import milbench.intake.pack
    import milbench.runs.benchmark
    import milbench.runs.merge  # noqa: F401 - imported once, for all forks

    killed = half_written = tries = 0
    while killed < n_kills and tries < 3 * n_kills:
        tries += 1
        if kind == "content":
            touch(Path(words[words.index("--cohort") + 1]), tries)
        killed += kill_once(kind, run, words, random.random() * 0.25)
        half_written += bool(left_in(run))
    status = os.waitpid(child(words), 0)[1]
    return {
        "kills": killed,
        "half_written": half_written,
        "code": os.waitstatus_to_exitcode(status),
        "left": len(left_in(run)),
    }


if __name__ == "__main__":
    kind, n_kills, seed, run, *words = sys.argv[1:]
    sys.stdout.write(json.dumps(try_all(kind, int(n_kills), int(seed), Path(run), words)) + "\n")
