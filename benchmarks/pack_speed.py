"""`milbench data pack` beside `cp` of the same bytes: seconds, megabytes per second of the source, CPU seconds.

    python benchmarks/pack_speed.py [--reference CHECKOUT] [--slides 24] [--patches 4000] [--dtype float32] [--save]

The source is TRIDENT's HDF5 with chunks (1, D), float32. Before each contestant the system is asked to forget it, and each
ends when its bytes are on the disk: `cp` is a loop of large reads and writes with `fsync`, and `pack` writes so anyway. Besides
copying, `pack` hashes the source and the features, checks every value, converts it, and reads back what it wrote.
Builds take turns, each in a process of its own; imports are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import h5py
import numpy as np
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of

HERE = Path(__file__).resolve().parents[1]
BUFFER = 4 << 20

PACK = """
import json, sys
from pathlib import Path
from time import perf_counter, process_time
try:  # the old names first: where milbench is installed for editing, the new ones are found beside an older build
    from milbench.cohort import CohortFile
    from milbench.pack import pack
except ImportError:
    from milbench.cohorts.cohort_file import CohortFile
    from milbench.intake.pack import pack
source, out, dtype = sys.argv[1:]
file = CohortFile("speed", Path(source) / "labels.csv", Path(source) / "features")
started, began = perf_counter(), process_time()
pack(file, Path(out), dtype, lambda slides, *_: slides)
print(json.dumps([perf_counter() - started, process_time() - began]))
"""


class Copied(NamedTuple):
    """Seconds of one copy; CPU seconds are 0 where they were not taken."""

    wall: float
    cpu: float = 0.0


def write_source(root: Path, slides: int, patches: int, width: int) -> int:
    """Bytes of a cohort of random features in TRIDENT's layout."""
    (root / "features").mkdir(parents=True)
    generator = np.random.default_rng(0)
    coords = np.stack([np.arange(patches) % 100, np.arange(patches) // 100], axis=1) * 256
    for number in range(slides):
        with h5py.File(root / "features" / f"slide{number}.h5", "w") as file:
            values = generator.standard_normal((patches, width), dtype=np.float32)
            file.create_dataset("features", data=values, chunks=(1, width)).attrs["encoder"] = "made"
            file.create_dataset("coords", data=coords, chunks=(1, 2))
    rows = "".join(f"p{number},slide{number},{number % 2}\n" for number in range(slides))
    (root / "labels.csv").write_text(f"case_id,slide_id,A\n{rows}")
    return sum(path.stat().st_size for path in (root / "features").iterdir())


def forget(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copied(source: Path, out: Path) -> Copied:
    """Each file read and written in large pieces, and forced to the disk."""
    buffer = memoryview(bytearray(BUFFER))

    def copy() -> None:
        for path in source.iterdir():
            with path.open("rb", buffering=0) as read, (out / path.name).open("wb", buffering=0) as write:
                while n_bytes := read.readinto(buffer):
                    write.write(buffer[:n_bytes])
                os.fsync(write.fileno())

    out.mkdir()
    forget(source)
    return Copied(seconds_of(copy))


def packed(root: Path, source: Path, out: Path, dtype: str) -> Copied:
    forget(source / "features")
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / '.typing'}"}
    words = [sys.executable, "-c", PACK, str(source), str(out), dtype]
    done = subprocess.run(words, cwd=source, env=environment, capture_output=True, text=True, check=True)
    return Copied(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--slides", 24), ("--patches", 4000), ("--width", 1024), ("--repetitions", 3)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--reference", type=Path, metavar="CHECKOUT", help="another build, which takes turns with this one"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's)")
    add_save_flag(parser)
    options = parser.parse_args()
    builds = {"pack": HERE, **({"pack, reference": options.reference.resolve()} if options.reference else {})}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, out = Path(folder) / "source", Path(folder) / "out"
        n_bytes = write_source(source, options.slides, options.patches, options.width)

        def fresh(work: Callable[[], Copied]) -> Copied:
            shutil.rmtree(out, ignore_errors=True)
            return work()

        found = interleaved(
            {
                "cp": lambda: fresh(lambda: copied(source / "features", out)),
                **{
                    name: lambda root=root: fresh(lambda: packed(root, source, out, options.dtype))
                    for name, root in builds.items()
                },
            },
            options.repetitions,
        )
    walls = {name: [each.wall for each in runs] for name, runs in found.items()}
    rows = [
        [
            name,
            f"{median(walls[name]):.2f}",
            f"{n_bytes / median(walls[name]) / 1e6:.0f}",
            f"{ratio(walls[name], walls['cp']):.2f}",
            f"{median(each.cpu for each in runs):.2f}" if any(each.cpu for each in runs) else "",
        ]
        for name, runs in found.items()
    ]
    publish(
        options,
        f"{options.slides} slides of {options.patches:,} × {options.width:,} float32 ({n_bytes / 1e6:.0f} MB) as {options.dtype}; "
        f"medians of {options.repetitions}.\n\n{table(['', 's', 'MB/s of the source', 'of cp', 'CPU s'], rows)}",
    )


if __name__ == "__main__":
    main()
