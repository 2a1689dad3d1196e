"""Reading one bag: every layout through milbench's own readers, against numpy.load on the same bytes.

    python benchmarks/read_speed.py [--patches 10000] [--width 1024] [--repeats 15]

Warm reads (the file is in the page cache), one process. Every layout is read in turn with numpy.load of the same
values in the same dtype, so that a busy moment hits both; the ratio is the median over those pairs. TRIDENT's files
are also read as its own code does, with plain h5py. Every read gets fresh memory (glibc would hand the last
bag's pages to some reads and not to others, a factor of two by chance; a run reads bags of all sizes), and one value
of every page is looked at, since packs and `.pt` files are mapped and their pages arrive only then.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import h5py
import numpy as np
import torch

from milbench.cohorts.cohort_file import CohortFile
from milbench.formats import open_features
from milbench.intake.pack import pack

Read = Callable[[], np.ndarray]
Layouts = dict[str, tuple[Read, str]]
"""By name: how to read one slide, and the dtype it comes in."""

PACK, TRIDENT = "milbench pack, float16", "TRIDENT, float16, plain h5py"


PAGE = 4096
FRESH_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--patches", 10_000), ("--width", 1024), ("--repeats", 31)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in FRESH_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **FRESH_MEMORY})
    print(f"{options.patches:,} x {options.width:,}, median of {options.repeats} warm reads")
    print(f"{'layout':36} {'ms':>8} {'MB/s':>8} {'time / numpy.load':>18}")
    with tempfile.TemporaryDirectory() as folder:
        layouts, arrays = write_layouts(Path(folder), options.patches, options.width)
        ratio = {}
        for name, (read, dtype) in layouts.items():
            pairs = measure(read, lambda path=arrays[dtype]: np.load(path), options.repeats)
            middle = median(own for own, _ in pairs)
            ratio[name] = median(own / reference for own, reference in pairs)
            n_bytes = options.patches * options.width * np.dtype(dtype).itemsize
            print(f"{name:36} {middle * 1e3:8.1f} {n_bytes / middle / 1e6:8.0f} {ratio[name]:18.2f}")
        between = [trident / pack for trident, pack in measure(layouts[TRIDENT][0], layouts[PACK][0], options.repeats)]
    print(f"\npack against TRIDENT's (1, D) chunks: {median(between):.1f} times faster")
    print(f"pack against numpy.load: {1 / ratio[PACK]:.0%} of its bandwidth")


def measure(read: Read, reference: Read, repeats: int) -> list[tuple[float, float]]:
    """Seconds of both, one after the other; the first pair warms up and is dropped."""
    return [(seconds(read), seconds(reference)) for _ in range(repeats + 1)][1:]


def seconds(read: Read) -> float:
    started = perf_counter()
    features = read()
    np.add.reduce(np.asarray(features).reshape(-1)[:: PAGE // features.itemsize])
    return perf_counter() - started


def write_layouts(root: Path, patches: int, width: int) -> tuple[Layouts, dict[str, Path]]:
    """Layouts as extractors write them and plain arrays by dtype, all of the same features."""
    half = np.random.default_rng(0).standard_normal((patches, width)).astype(np.float16)
    full = half.astype(np.float32)
    coords = np.stack([np.arange(patches) % 100, np.arange(patches) // 100], axis=1) * 256
    write_h5(root / "trident16", half, coords, chunks=(1, width))
    write_h5(root / "trident32", full, coords, chunks=(1, width))
    write_h5(root / "gzip", half, coords, chunks=True, compression="gzip")
    write_h5(root / "clam", full, coords)
    (root / "pt").mkdir()
    torch.save(torch.from_numpy(full), root / "pt" / "slide.pt")
    np.save(root / "float16.npy", half)
    np.save(root / "float32.npy", full)
    (root / "labels.csv").write_text("case_id,slide_id,A\np,slide,1\n")
    for dtype in ("float16", "float32"):
        file = CohortFile("speed", root / "labels.csv", root / "clam")
        pack(file, root / f"pack_{dtype}", dtype, lambda slides, _: slides)
    layouts: Layouts = {
        PACK: (reader(root / "pack_float16" / "features"), "float16"),
        "milbench pack, float32": (reader(root / "pack_float32" / "features"), "float32"),
        "CLAM .h5, float32, contiguous": (reader(root / "clam"), "float32"),
        "CLAM .pt, float32": (reader(root / "pt"), "float32"),
        TRIDENT: (lambda: plain(root / "trident16" / "slide.h5"), "float16"),
        "TRIDENT, float16, chunks (1, D)": (reader(root / "trident16"), "float16"),
        "TRIDENT, float32, chunks (1, D)": (reader(root / "trident32"), "float32"),
        "float16, gzip": (reader(root / "gzip"), "float16"),
    }
    return layouts, {dtype: root / f"{dtype}.npy" for dtype in ("float16", "float32")}


def write_h5(folder: Path, features: np.ndarray, coords: np.ndarray, **how: object) -> None:
    folder.mkdir()
    with h5py.File(folder / "slide.h5", "w") as file:
        file.create_dataset("features", data=features, **how)
        file.create_dataset("coords", data=coords)


def plain(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        file["coords"][:]
        return file["features"][:]


def reader(folder: Path) -> Read:
    """Reads the one slide in `folder` as a training run does."""
    opened = open_features(folder)
    return lambda: opened.load("slide").features.numpy()


if __name__ == "__main__":
    main()
