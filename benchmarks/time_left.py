"""The time left that `milbench run` says, against the time that was left: of whole runs, second by second.

    python benchmarks/time_left.py [--repetitions 2] [--save]

The runs are the first command of the README, and one of two models and two seeds. Each is a process of its own in an empty folder. What
it says is recorded whenever it reckons, once per second at least. The truth is when the last trial ended. A saying counts as right if it is
within a factor of 1.5, or wrong by no more than a fiftieth of the whole run, as in `tests/runs/test_time_left.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from results_file import add_save_flag, publish, table

FACTOR = 1.5
FROM = 0.1
"""Part of the run from which on the time left should be within the factor."""

SMALL = 0.02
"""Part of the run by which a saying may be wrong: at the end, seconds decide on a factor."""

RUNS = ((), ("--models", "amil", "transmil", "--seeds", "42", "43"))
"""Words for `milbench run`."""

SHOWN = (0.1, 0.25, 0.5, 0.75, 0.9)

RECORDED = """
import json, os, sys, time
from milbench.__main__ import command
from milbench.runs.progress import Progress

file = open(sys.argv.pop(1), "w", buffering=1)
usual, leave = Progress.seconds_left, Progress.__exit__

def note(**facts):
    file.write(json.dumps({"at": time.monotonic(), **facts}) + chr(10))

def seconds_left(self):
    said = usual(self)
    note(said=said, share=self.clock.share, computed=self.clock.seconds, load=os.getloadavg()[0])
    return said

def ended(self, *error):
    note(said=0.0, share=self.clock.share, computed=self.clock.seconds, load=os.getloadavg()[0])
    return leave(self, *error)

Progress.seconds_left, Progress.__exit__ = seconds_left, ended
command()
"""
"""The command, with a record of what it says."""


NOTE = (
    "Load: of the machine, mean over the run. Share of a core: what a running pass had in each tenth of the run, least and largest. "
    f"Right: within a factor of {FACTOR}, or wrong by {SMALL:.0%} of the run at most, from the first tenth on. Furthest off: the largest "
    f"factor from the first tenth on, except for the last {SMALL:.0%}. Right in computing: the same in seconds of a core, as if the share "
    "that workers would get had been known. What is missing in `right` alone is load that nobody foresaw."
)


class Saying(NamedTuple):
    """What a run said.

    Attributes
    ----------
    at : seconds since the run's first saying. left : seconds that were left. said : None = nothing.
    computed : seconds that the mean running pass had had of a core; share : of a core that was expected for the rest.
    load : of the machine, over the last minute.
    """

    at: float
    left: float
    said: float | None
    share: float
    computed: float
    load: float

    @property
    def ratio(self) -> float:
        """What was said per second that was left; 0 if nothing was said."""
        return (self.said or 0.0) / self.left


def recorded(words: Sequence[str]) -> list[Saying]:
    """What one run said, in order; its last entry is its end."""
    with tempfile.TemporaryDirectory(prefix="milbench-time-left-") as place:
        record = Path(place) / "record.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", RECORDED, str(record), "run", "--no-tracking", *words],
            cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"milbench run ended with code {done.returncode}:\n{done.stdout[-3000:]}")
        rows = [json.loads(line) for line in record.read_text().splitlines()]
    begun, ended = rows[0]["at"], rows[-1]["at"]
    return [
        Saying(row["at"] - begun, ended - row["at"], row["said"], row["share"], row["computed"], row["load"])
        for row in rows
    ]


def judged(sayings: Sequence[Saying]) -> list[Saying]:
    """Those that should be right."""
    whole = sayings[-1].at
    return [each for each in sayings if each.at >= FROM * whole and each.left]


def is_right(saying: Saying, whole: float) -> bool:
    return 1 / FACTOR <= saying.ratio <= FACTOR or abs((saying.said or 0.0) - saying.left) <= SMALL * whole


def in_computing(sayings: Sequence[Saying]) -> list[Saying]:
    """The same in seconds of computing, as if the share of a core had been known: how good the forecast is apart from the load."""
    whole = sayings[-1].computed
    return [
        each._replace(
            at=each.computed, left=whole - each.computed, said=None if each.said is None else each.said * each.share
        )
        for each in sayings
    ]


def row(name: str, sayings: Sequence[Saying]) -> list[str]:
    """A run: its seconds, the machine, and how far off it was on the way."""
    whole, known = sayings[-1].at, judged(sayings)
    right, computing = (
        fmean(is_right(each, some[-1].at) for each in judged(some)) for some in (sayings, in_computing(sayings))
    )
    off = [max(each.ratio, 1 / each.ratio) if each.ratio else inf for each in known if each.left > SMALL * whole]
    marks = [next(each for each in sayings if each.at >= part * whole) for part in SHOWN]
    return [
        name, f"{whole:.0f}", f"{fmean(each.load for each in sayings):.1f}", shares(sayings),
        *(f"{each.ratio:.2f}" for each in marks), f"{max(off):.2f}", f"{100 * right:.0f} %", f"{100 * computing:.0f} %",
    ]  # fmt: skip


def shares(sayings: Sequence[Saying]) -> str:
    """Least and largest share of a core that a running pass had over a tenth of the run, from the first tenth on."""
    whole = sayings[-1].at
    cuts = [next(each for each in sayings if each.at >= part * whole / 10) for part in range(1, 10)] + [sayings[-1]]
    found = [
        (later.computed - each.computed) / (later.at - each.at) for each, later in pairwise(cuts) if later.at > each.at
    ]
    return f"{min(found):.2f} to {max(found):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2, help="of each run")
    add_save_flag(parser)
    options = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)  # as a user has it
    names = [words for _ in range(options.repetitions) for words in RUNS]
    rows = [row(f"`{' '.join(('milbench run', *words))}`", recorded(words)) for words in names]
    marks = [f"said / left at {part:.0%}" for part in SHOWN]
    head = ["", "wall s", "load", "share of a core", *marks, "furthest off", "right", "right in computing"]
    publish(options, f"{table(head, rows)}\n\n{NOTE}")


if __name__ == "__main__":
    main()
