"""Reading one bag: every layout through milbench's own readers, beside numpy.load of the same numbers, warm and cold.

    python benchmarks/read_speed.py [--reference CHECKOUT] [--patches 10000] [--width 1024] [--repeats 15] [--threads 2] [--only TEXT]
                                    [--minutes 8] [--save]

Sixteen formats as their tools write them, then packs and HDF5 with filters. Each repetition reads every layout by each
build, and the plain array by numpy.load right after it, so that a busy moment hits all. A ratio is the median over
repetitions. The builds go first in turn, since the first cold read takes longer than the next. Warm: the files are in the
page cache. Cold: the system was asked to forget them (`posix_fadvise`), so the disk is measured too.

With `--reference`, a process of another checkout reads the same files in turn; "not read" where it cannot. With
`--minutes`, nothing is read again after that time, and the text says how often each layout was. CPU seconds tell more than wall
seconds where others work on the machine. They are those of all threads of a process.

Every read gets fresh memory (glibc would hand the last bag's pages to some reads and not to others, a factor of two by
chance; a run reads bags of all sizes). One value of every page is looked at, since packs and `.pt` files are mapped.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

PAGE = 4096
FRESH_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}
HERE = Path(__file__).resolve().parents[1]
NUMPY = "numpy.load"
WARM, COLD = "warm", "cold"
ROUNDS = 5
"""Processes of each build, one after the other. Where one's memory happens to lie changes its reads by up to a third."""

FORMATS = {
    "clam_h5": "CLAM .h5",
    "clam_pt": "CLAM .pt",
    "clam_sites": "CLAM .h5, a folder per site",
    "trident_h5": "TRIDENT .h5, chunks (1, D)",
    "trident_patches": "TRIDENT .h5, coordinates beside",
    "trident_pt": "TRIDENT .pt",
    "stamp_today": "STAMP .h5",
    "slideflow": "slideflow .pt",
    "slideflow_without_zip": "slideflow .pt, index as .npy",
    "torchmil_npy": "torchmil .npy",
    "torchmil_h5": "torchmil .h5",
    "owkin": "Owkin .npy",
    "pt_dict": ".pt with a dict",
    "npy": "NumPy .npy",
    "npz": "NumPy .npz",
    "npz_compressed": "NumPy .npz, compressed",
}
"""The sixteen, by the functions that write them in tests/support/formats_for_tests.py; float16."""

FILTERED: dict[str, dict[str, object]] = {
    "HDF5, gzip": {"chunks": True, "compression": "gzip"},
    "HDF5, gzip, chunks (1, D)": {"compression": "gzip"},
    "HDF5, gzip and shuffle": {"chunks": True, "compression": "gzip", "shuffle": True},
    "HDF5, lzf": {"chunks": True, "compression": "lzf"},
}


class Layout(NamedTuple):
    """A folder with one slide, and the plain array of the same numbers."""

    folder: Path
    plain: Path


class Reading(NamedTuple):
    """Seconds of one read."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--patches", 10_000), ("--width", 1024), ("--repeats", 15), ("--threads", 2)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--reference", type=Path, metavar="CHECKOUT", help="another build, read in turn with this one")
    parser.add_argument(
        "--folder", type=Path, help="where the files are made (default: the system's; a tmpfs is never cold)"
    )
    parser.add_argument(
        "--minutes", type=float, default=inf, help="after which nothing is read again (default: no limit)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="layouts whose name holds this text")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    if "--serve" in sys.argv:
        serve()
        return
    from results_file import add_save_flag, publish

    add_save_flag(parser)
    options = parser.parse_args()
    until = perf_counter() + options.minutes * 60
    builds = {"": HERE, **({"reference": options.reference.resolve()} if options.reference else {})}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        layouts = write_layouts(Path(folder), options.patches, options.width)
        layouts = {name: layout for name, layout in layouts.items() if options.only in name}
        found = measure(layouts, builds, options.repeats, options.threads, until)
    n_done = min(map(len, found.values()))
    size = f"{options.patches:,} × {options.width:,}"
    told = f"{size}, {options.threads} threads of torch, medians of at least {n_done} interleaved reads; ratios of wall (CPU) seconds."
    publish(
        options,
        "\n\n".join([told, *(text_of(found, state, builds) for state in (WARM, COLD))]),
        threads=options.threads,
    )


# ---- the parent ----------------------------------------------------------------------------------

Found = dict[tuple[str, str, str], list[Reading | None]]
"""Readings by layout, state and reader."""


def measure(
    layouts: Mapping[str, Layout], builds: Mapping[str, Path], repeats: int, threads: int, until: float = inf
) -> Found:
    """Readings of `repeats` repetitions, or of those that began before the clock said `until`: at least one of each layout."""
    found: Found = {}
    rounds = min(ROUNDS, repeats)
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as elsewhere, opened(builds, threads, elsewhere) as ask:
            for repetition in range(len(range(number, repeats, rounds)) + 1):  # the first warms up
                order = list(builds) if (number + repetition) % 2 else list(builds)[::-1]
                for name, layout in layouts.items():
                    if (name, WARM, "") in found and perf_counter() > until:
                        return found
                    for state, reader, reading in readings(layout, order, ask):
                        if repetition:
                            found.setdefault((name, state, reader), []).append(reading)
    return found


def readings(
    layout: Layout, builds: Sequence[str], ask: Callable[[str, str, str], Reading | None]
) -> Iterator[tuple[str, str, Reading | None]]:
    """One read by each build, in that order, and by numpy.load, cold and then warm."""
    for state in (COLD, WARM):
        asked = [(build, build, str(layout.folder)) for build in builds]
        for reader, build, path in (*asked, (NUMPY, "", str(layout.plain))):
            if state == WARM:
                ask(build, path, WARM)  # in the cache, whatever was read last
            yield state, reader, ask(build, path, state)


@contextmanager
def opened(
    builds: Mapping[str, Path], threads: int, elsewhere: str
) -> Iterator[Callable[[str, str, str], Reading | None]]:
    """A function that lets a build's process read a path."""
    words = [sys.executable, __file__, "--serve", str(threads)]
    servers = {
        name: subprocess.Popen(
            words,
            env={**os.environ, **FRESH_MEMORY, "PYTHONPATH": f"{root}:{root / '.typing'}"},
            cwd=elsewhere,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, root in builds.items()
    }

    def ask(build: str, path: str, state: str) -> Reading | None:
        server = servers[build]
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps([path, state]), file=server.stdin, flush=True)
        answer = json.loads(server.stdout.readline())
        return None if answer is None else Reading(*answer)

    try:
        yield ask
    finally:
        for server in servers.values():
            server.communicate()


def text_of(found: Found, state: str, builds: Mapping[str, Path]) -> str:
    from results_file import table

    names = dict.fromkeys(name for name, its_state, _ in found if its_state == state)
    head = [state, "ms", "of numpy.load", *(["times as fast as the reference"] if "reference" in builds else [])]
    rows = []
    for name in names:
        own, plain, reference = (found.get((name, state, reader), []) for reader in ("", NUMPY, "reference"))
        row = [name, f"{median(each.wall for each in own if each) * 1e3:.1f}", ratios(own, plain)]
        rows.append([*row, ratios(reference, own)] if "reference" in builds else row)
    return table(head, rows)


def ratios(above: list[Reading | None], below: list[Reading | None]) -> str:
    pairs = [(one, other) for one, other in zip(above, below, strict=True) if one and other]
    if not pairs:
        return "not read"
    wall, cpu = (median(one[which] / other[which] for one, other in pairs) for which in (0, 1))
    return f"{wall:.2f} ({cpu:.2f})"


# ---- a build's process ---------------------------------------------------------------------------


def serve() -> None:
    """Read what each line of the input names, and answer with the seconds, or null."""
    import torch

    from milbench.formats import open_features

    torch.set_num_threads(int(sys.argv[-1]))
    readers: dict[str, Callable[[], np.ndarray]] = {}
    for line in sys.stdin:
        path, state = json.loads(line)
        if path not in readers:
            readers[path] = plain(path) if path.endswith("plain.npy") else slide(open_features, path)
        if state == COLD:
            forget(Path(path))
        try:
            answer = tuple(seconds(readers[path]))
        except Exception:  # noqa: BLE001 - an older build does not read every layout
            answer = None
        gc.collect()
        print(json.dumps(answer), flush=True)


def plain(path: str) -> Callable[[], np.ndarray]:
    return lambda: np.load(path)


def slide(open_features: Callable[[Path], object], path: str) -> Callable[[], np.ndarray]:
    """Reads the one slide of a folder as a run does."""
    try:
        opened = open_features(Path(path))
    except Exception:  # noqa: BLE001 - see `serve`
        return lambda: 1 // 0  # type: ignore[return-value]
    return lambda: opened.load("slide").features.numpy()  # type: ignore[attr-defined]


def seconds(read: Callable[[], np.ndarray]) -> Reading:
    started, began = perf_counter(), process_time()
    features = read()
    np.add.reduce(np.asarray(features).reshape(-1)[:: PAGE // features.itemsize])
    return Reading(perf_counter() - started, process_time() - began)


def forget(path: Path) -> None:
    """Ask the system to drop what lies there from its cache; what is not on the disk yet could not be dropped."""
    root = path if path.is_dir() else path.parent
    beside = root.parent if (root.parent / "coords").is_dir() or (root.parent / "patches").is_dir() else root
    for file in beside.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- files ---------------------------------------------------------------------------------------


def write_layouts(root: Path, patches: int, width: int) -> dict[str, Layout]:
    """Layouts as extractors write them and plain arrays by dtype, all of the same features."""
    import formats_for_tests as written

    from milbench.cohorts.cohort_file import CohortFile
    from milbench.intake.pack import pack

    half = np.random.default_rng(0).standard_normal((patches, width)).astype(np.float16)
    coords = np.stack([np.arange(patches) % 100, np.arange(patches) // 100], axis=1) * 256
    plains = {}
    for dtype in ("float16", "float32"):
        (root / dtype).mkdir()
        plains[dtype] = root / dtype / "plain.npy"
        np.save(plains[dtype], half.astype(dtype))
    slides = {"slide": written.Slide(half, coords)}
    layouts: dict[str, Layout] = {}
    for writer, name in FORMATS.items():
        folder, _ = getattr(written, writer)(root / writer, slides)
        layouts[name] = Layout(folder, plains["float16"])
    folder, _ = written.trident_h5(root / "trident32", {"slide": written.Slide(half.astype(np.float32), coords)})
    layouts["TRIDENT .h5, chunks (1, D), float32"] = Layout(folder, plains["float32"])
    for number, (name, how) in enumerate(FILTERED.items()):
        folder = root / f"filtered{number}"
        write_h5(folder, half, coords, **{"chunks": (1, width), **how})
        layouts[name] = Layout(folder, plains["float16"])
    (root / "labels.csv").write_text("case_id,slide_id,A\np,slide,1\n")
    for dtype in ("float16", "float32"):
        pack(
            CohortFile("speed", root / "labels.csv", root / "clam_h5"),
            root / f"pack_{dtype}",
            dtype,
            lambda ids, *_: ids,
        )
        layouts[f"milbench pack, {dtype}"] = Layout(root / f"pack_{dtype}" / "features", plains[dtype])
    return layouts


def write_h5(folder: Path, features: np.ndarray, coords: np.ndarray, **how: object) -> None:
    folder.mkdir()
    with h5py.File(folder / "slide.h5", "w") as file:
        file.create_dataset("features", data=features, **how)
        file.create_dataset("coords", data=coords)


if __name__ == "__main__":
    main()
