"""`milbench report` on a finished run: wall and CPU seconds of the whole command, this build beside another.

    python benchmarks/report_speed.py runs/digits --reference ../other-checkout [--repetitions 3] [--save]

Each report is a process of its own, and the two builds take turns, so that other guests of the machine disturb both alike. CPU
seconds are of the process and all that it started. The first report of each build is not counted: it fills the system's cache.
Of the reports' files the script says how many are the same: tables byte for byte, figures pixel by pixel, PDFs too as
`pdftoppm` draws them, where it is installed. Both builds may write bytecode, as an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from PIL import Image
from results_file import add_save_flag, publish, table

OURS = Path(__file__).parents[1]


class Taken(NamedTuple):
    """Seconds of one report."""

    wall: float
    cpu: float


def entry_point(checkout: Path) -> tuple[str, str]:
    """Module and function that the command `milbench` of a checkout calls."""
    scripts = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["milbench"].partition(":")
    return module, function


def report(checkout: Path, run: Path, out: Path) -> Taken:
    """Seconds of a report by the build of a checkout."""
    module, function = entry_point(checkout)
    program = f"import sys; from {module} import {function}; sys.argv[0] = 'milbench'; sys.exit({function}())"
    words = [sys.executable, "-c", program, "report", str(run), "--out", str(out), "--no-tracking"]
    places = [str(checkout), str(checkout / ".typing")]
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = perf_counter()
    # in the checkout's folder, since Python looks for modules beside the command first
    process = subprocess.Popen(
        words, cwd=checkout, env={**usual, "PYTHONPATH": os.pathsep.join(places)}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the report by {checkout} ended with code {process.returncode}. See its message above.")
    return Taken(perf_counter() - started, used.ru_utime + used.ru_stime)


def same_files(ours: Path, theirs: Path) -> str:
    """How many files of two reports are the same, and which are not."""
    names = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
    there = [name for name in names if (ours / name).exists()]
    differ = [str(name) for name in there if not _equal(ours / name, theirs / name)]
    told = f"{len(there) - len(differ)} of the reference's {len(names)} files are the same here"
    return f"{told}; different: {', '.join(differ)}." if differ else f"{told}."


def _equal(first: Path, second: Path) -> bool:
    if first.read_bytes() == second.read_bytes():
        return True
    if first.suffix == ".pdf" and shutil.which("pdftoppm"):
        drawn = [subprocess.check_output(["pdftoppm", "-r", "200", path]) for path in (first, second)]
        return drawn[0] == drawn[1]
    return first.suffix == ".png" and np.array_equal(*(np.asarray(Image.open(path)) for path in (first, second)))


def timed(checkouts: Mapping[str, Path], run: Path, out: Path, repetitions: int) -> dict[str, list[Taken]]:
    """Seconds of each build's reports, the builds taking turns."""
    taken: dict[str, list[Taken]] = {name: [] for name in checkouts}
    for repetition in range(repetitions + 1):
        for name, checkout in checkouts.items():
            seconds = report(checkout, run, out / name)
            if repetition:
                taken[name].append(seconds)
    return taken


def rows(taken: Mapping[str, Sequence[Taken]]) -> list[list[str]]:
    """One row per build: medians, and how many times the first build's they are."""
    middle = {name: Taken(*(median(column) for column in zip(*each, strict=True))) for name, each in taken.items()}
    ours = next(iter(middle.values()))
    return [
        [name, f"{one.wall:.1f}", f"{one.cpu:.1f}", f"{one.wall / ours.wall:.2f}", f"{one.cpu / ours.cpu:.2f}"]
        for name, one in middle.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="folder of another build to take turns with")
    parser.add_argument("--repetitions", type=int, default=3)
    add_save_flag(parser)
    options = parser.parse_args()
    checkouts = {"this build": OURS}
    if options.reference:
        checkouts[f"reference ({options.reference.name})"] = options.reference.resolve()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        taken = timed(checkouts, options.run.resolve(), out, options.repetitions)
        head = ["report", "wall s", "CPU s", "times wall", "times CPU"]
        body = f"{table(head, rows(taken))}\n\nMedians of {options.repetitions} reports on `{options.run.name}`."
        if options.reference:
            body += f" {same_files(*(out / name for name in checkouts))}"
        publish(options, body)


if __name__ == "__main__":
    main()
