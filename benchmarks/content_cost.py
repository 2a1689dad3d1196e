"""Cost of knowing what feature files hold: SHA-256 of whole files, cold and warm, scaled from a few files to a cohort.

    python benchmarks/content_cost.py [--files 50] [--megabytes 40] [--slides 1000] [--save]

*Cold* reads every file whole, its pages dropped from the system's cache first where the system allows it. *In memory*
reads them from that cache: the cost of hashing alone. *Warm* compares size, time and inode with what was remembered, which
is what each later command does. *One thread* is the reference: the same files hashed in turn. The last column multiplies
the time per file by the number of slides, and is labelled so.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from results_file import add_save_flag, publish, table

from milbench.cohorts.content import contents, file_sha256

DAY_NS = 86_400 * 10**9


def write(folder: Path, count: int, size: int) -> dict[str, Path]:
    """Files of random bytes, dated yesterday: a file that was written just now would be read again."""
    files = {f"s{number}": folder / f"s{number}.npy" for number in range(count)}
    for path in files.values():
        path.write_bytes(os.urandom(size))
        with path.open("rb") as file:
            os.fsync(file.fileno())
        yesterday = path.stat().st_mtime_ns - DAY_NS
        os.utime(path, ns=(yesterday, yesterday))
    return files


def drop_pages(files: dict[str, Path]) -> None:
    """Ask the system to forget the files' pages, so that they are read from the disk."""
    for path in files.values():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> float:
    """What `work` takes."""
    begun = perf_counter()
    work()
    return perf_counter() - begun


def main() -> None:
    """Measure, and print a table with one row per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50)
    parser.add_argument("--megabytes", type=int, default=40)
    parser.add_argument("--slides", type=int, default=1000)
    add_save_flag(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        files = write(Path(folder), options.files, options.megabytes * 1_000_000)
        drop_pages(files)
        cold = seconds(lambda: contents(files, {}))
        known = contents(files, {})
        in_turn = seconds(lambda: [file_sha256(path) for path in files.values()])
        cases = {
            "cold": cold,
            "in memory": seconds(lambda: contents(files, {})),
            "warm": seconds(lambda: contents(files, known)),
            "one thread": in_turn,
        }
    rows = [(name, f"{took:.3f}", f"{took / options.files * options.slides:.2f}") for name, took in cases.items()]
    head = ["", "seconds", f"extrapolated to {options.slides:,} files"]
    publish(options, f"{options.files} files of {options.megabytes} MB.\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
