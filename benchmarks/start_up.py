"""What the first commands of a user cost before they answer: CPU seconds of each, beside another build of milbench.

    python benchmarks/start_up.py [--reference FOLDER] [--repetitions 5] [--save]

Every command is a process of its own, and the builds take turns. CPU seconds are user and system time of the process, from a
warm file cache: the first call of each command is dropped. In this build that call also keeps facts of the models and
datasets (`milbench/commands/kept_facts.py`), in a cache folder that the script makes; its cost is in the column "first call".
`run` is timed by its first line of output and then stopped.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from results_file import add_save_flag, publish, table
from timing import interleaved, ratio

HERE = Path(__file__).resolve().parents[1]
COMMANDS = (
    ("--version",), ("--help",), ("models",), ("models", "amil"), ("datasets",), ("status", "RUN"),
)  # fmt: skip
NOT_THERE, BAD_INPUT = -1.0, 2
RUN = ("--models", "mean_pooling", "--folds", "0", "--no-tracking", "--set", "trainer.epochs=1")


class Build(NamedTuple):
    """A checkout of milbench, and where its commands keep facts."""

    folder: Path
    cache: Path

    def program(self, *words: str) -> list[str]:
        """The command, whatever folder it is given in."""
        module, _, function = _entry_point(self.folder).partition(":")
        return [
            sys.executable,
            "-P",
            "-c",
            f"import sys; from {module} import {function} as main; sys.exit(main())",
            *words,
        ]

    def environment(self) -> dict[str, str]:
        """In which the checkout is imported, whatever is installed."""
        paths = os.pathsep.join(map(str, (self.folder, self.folder / ".typing")))
        return {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": str(self.cache), "OMP_NUM_THREADS": "1"}


def _entry_point(folder: Path) -> str:
    return str(tomllib.loads((folder / "pyproject.toml").read_text())["project"]["scripts"]["milbench"])


def cpu_seconds(build: Build, words: Sequence[str]) -> float:
    """User and system seconds of a command, its processes included; `NOT_THERE` if another build does not know it.

    Raises
    ------
    SystemExit : the command fails.
    """
    before = _children()
    ended = subprocess.run(build.program(*words), env=build.environment(), capture_output=True, text=True, check=False)
    if ended.returncode == BAD_INPUT and build.folder != HERE:
        return NOT_THERE
    if ended.returncode:
        raise SystemExit(f"milbench {' '.join(words)} of {build.folder} failed:\n{ended.stderr}")
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_to_first_line(build: Build) -> float:
    """Wall seconds until `milbench run` on digits has printed a line."""
    with tempfile.TemporaryDirectory() as folder:
        started = perf_counter()
        command = build.program("run", *RUN, "--run", f"{folder}/run")
        with subprocess.Popen(
            command, env=build.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            seconds = perf_counter() - started
            process.kill()
    if not line.strip():
        raise SystemExit(f"milbench run of {build.folder} printed nothing")
    return seconds


def make_run(build: Build, folder: Path) -> str:
    """A small finished run for `status`."""
    cpu_seconds(build, ["run", *RUN, "--run", str(folder)])
    return str(folder)


def row(name: str, measure: Callable[[Build], float], builds: dict[str, Build], repetitions: int) -> list[str]:
    """Medians of each build, and how much faster this one is; the first call of this build apart."""
    first = measure(builds["this"])
    found = interleaved({key: partial(measure, build) for key, build in builds.items()}, repetitions)
    cells = [name, f"{first:.2f}", f"{median(found['this']):.2f}"]
    if "reference" not in found:
        return cells
    if NOT_THERE in found["reference"]:
        return [*cells, "not there", "-"]
    return [*cells, f"{median(found['reference']):.2f}", f"{ratio(found['reference'], found['this']):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, metavar="FOLDER", help="checkout of the build to compare with")
    parser.add_argument("--repetitions", type=int, default=5)
    add_save_flag(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        builds = {"this": Build(HERE, Path(temporary, "this"))}
        if options.reference:
            builds["reference"] = Build(options.reference.resolve(), Path(temporary, "reference"))
        # each build shows a run of its own: an older one may not know the files of a newer
        runs = {build: make_run(build, Path(temporary, f"run-{name}")) for name, build in builds.items()}

        def cost(words: Sequence[str], build: Build) -> float:
            return cpu_seconds(build, [runs[build] if word == "RUN" else word for word in words])

        rows = [
            row(f"`milbench {' '.join(words)}`, CPU s", partial(cost, words), builds, options.repetitions)
            for words in COMMANDS
        ]
        rows.append(row("`milbench run`, first line, wall s", seconds_to_first_line, builds, options.repetitions))
    head = ["", "first call", "this build", *(["reference", "times faster"] if options.reference else [])]
    publish(options, table(head, rows))


if __name__ == "__main__":
    main()
