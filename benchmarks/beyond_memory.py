"""A cohort that is larger than the memory allowed: how fast training reads it, and how much memory the worker takes.

    python benchmarks/beyond_memory.py [--memory 2GB] [--slides 184] [--models dsmil mean_pooling:embedding=false] [--save]

Each model trains one trial with one worker. The bytes handed to it in train_seconds (training and validation slides
every epoch, validation and test slides once at the end) are compared with a loop that reads the same files in the same
order into one buffer and does nothing with them. Mean pooling without its embedding computes next to nothing, so it shows
what reading, checking and handing over cost by themselves; the others show where a model's arithmetic is slower than the disk.
Before each, the system is asked to forget the files (`posix_fadvise`), and left alone for some seconds: a virtual machine gives
memory that is free back to its host, and to get it anew costs as much as the reading. Only the first reading of a file is cold
where the machine's own memory could hold the cohort, so one epoch is the default.
Memory is the resident size of the largest of the command's processes, sampled ten times per second.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import reference
from command import add_run_flags, run
from made_cohort import Size, add_folder_flag, add_size_flags, asked_size, temporary_cohort
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of

USUAL = Size(184, 2000, 2048, 1)
BARE = "reading alone"
SETTLE_SECONDS = 10


class Reading(NamedTuple):
    """Bytes per second, and the largest resident size in bytes that was seen; 0 where none was looked at."""

    rate: float
    peak_rss: int = 0


class Resident:
    """The largest resident size of one of a command's processes: of the worker, which a command with one may be itself."""

    def __init__(self) -> None:
        self.peak = 0

    def __call__(self, command: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):  # whatever has ended by now was looked at before
            for process in (command, *command.children(recursive=True)):
                self.peak = max(self.peak, process.memory_info().rss)


def forget(cohort: Path) -> None:
    """Ask the system to drop the files from its cache; what is not on the disk yet could not be dropped."""
    for path in (cohort / "features").iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    time.sleep(SETTLE_SECONDS)


def order(sides: reference.Sides, epochs: int) -> list[str]:
    """Slides as a trial asks for them."""
    return [*[*sides.train, *sides.val] * epochs, *sides.val, *sides.test]


def bare(cohort: Path, slides: Sequence[str], bag_bytes: int) -> Reading:
    paths = [cohort / "features" / f"{slide}.pt" for slide in slides]
    buffer = bytearray(max(path.stat().st_size for path in paths))

    def read() -> None:
        for path in paths:
            with path.open("rb", buffering=0) as file:
                file.readinto(buffer)

    forget(cohort)
    return Reading(len(slides) * bag_bytes / seconds_of(read))


def trained(cohort: Path, model: str, n_bytes: int, options: argparse.Namespace) -> Reading:
    name, _, setting = model.partition(":")
    resident = Resident()
    words = [
        *(("--set", f"model.{name}.{setting}") if setting else ()),
        *("--cohort", str(cohort), "--models", name, "--folds", "0", "--set", f"trainer.epochs={options.epochs}"),
        *("--memory", options.memory, "--workers", "1", "--threads", str(options.threads)),
    ]
    forget(cohort)
    found = run(options.milbench, words, watch=resident)
    return Reading(n_bytes / found.train_seconds(), resident.peak)


def rows(found: Mapping[str, Sequence[Reading]]) -> list[list[str]]:
    rates = {name: [each.rate for each in readings] for name, readings in found.items()}
    peaks = {name: median(each.peak_rss for each in readings) for name, readings in found.items()}
    return [
        [
            name,
            f"{median(rate) / 1e9:.2f}",
            f"{ratio(rate, rates[BARE]):.2f}",
            f"{peaks[name] / 1e9:.2f}" if peaks[name] else "",
        ]
        for name, rate in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_flags(parser, USUAL)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME[:SETTING=VALUE]",
        default=["dsmil", "mean_pooling", "mean_pooling:embedding=false"],
    )
    parser.add_argument("--memory", default="2GB", help="what milbench is allowed (default 2GB)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the worker")
    add_run_flags(parser, repetitions=3)
    add_folder_flag(parser)
    add_save_flag(parser)
    options = parser.parse_args()
    size = asked_size(options)._replace(tasks=1)
    with temporary_cohort(size, options.folder) as cohort:
        slides = order(reference.sides_of(cohort, 0), options.epochs)
        n_bytes = len(slides) * size.bag_bytes
        contestants = {
            BARE: lambda: bare(cohort, slides, size.bag_bytes),
            **{model: lambda model=model: trained(cohort, model, n_bytes, options) for model in options.models},
        }
        found = interleaved(contestants, options.repetitions, warm_ups=options.warm_ups)
    head = ["", "GB/s", "of reading alone", "largest resident GB"]
    publish(
        options,
        f"{size} under `--memory {options.memory}`, {options.epochs} epoch(s), {n_bytes / 1e9:.2f} GB handed out; medians of "
        f"{options.repetitions} interleaved repetitions.\n\n{table(head, rows(found))}",
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
