"""Cohorts made for a benchmark: random features as CLAM's `.pt` files, random labels, deleted afterwards."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

SPARE_BYTES = 2 * 10**9
"""Left free on the disk beside what is written."""


class Size(NamedTuple):
    """S slides, one per patient, of N patches × D float32 features each, with T balanced tasks."""

    slides: int
    patches: int
    width: int
    tasks: int

    @property
    def bag_bytes(self) -> int:
        return self.patches * self.width * 4

    @property
    def n_bytes(self) -> int:
        return self.slides * self.bag_bytes

    def __str__(self) -> str:
        return f"{self.slides:,} slides of {self.patches:,} × {self.width:,} ({self.n_bytes / 1e9:.2g} GB)"


def tiny(size: Size) -> Size:
    """A cohort of the same width and tasks with next to nothing to compute, whose run tells the start-up."""
    return size._replace(slides=min(size.slides, 40), patches=min(size.patches, 4))


def add_size_flags(parser: argparse.ArgumentParser, usual: Size) -> None:
    """`--slides`, `--patches`, `--width`, `--tasks`."""
    for name, value in usual._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"of the cohort (default {value})")


def asked_size(options: argparse.Namespace) -> Size:
    """What `add_size_flags` was told."""
    return Size(options.slides, options.patches, options.width, options.tasks)


def add_folder_flag(parser: argparse.ArgumentParser) -> None:
    """`--folder`."""
    parser.add_argument(
        "--folder", type=Path, help="where to make the cohort, which is deleted at the end (default: the system's)"
    )


@contextmanager
def temporary_cohort(size: Size, folder: Path | None = None) -> Iterator[Path]:
    """A cohort folder that lasts as long as the block.

    Raises
    ------
    SystemExit : the disk has too little room.
    """
    with tempfile.TemporaryDirectory(prefix="milbench-cohort-", dir=folder) as place:
        free = shutil.disk_usage(place).free
        if size.n_bytes + SPARE_BYTES > free:
            raise SystemExit(
                f"{place} has {free / 1e9:.1f} GB free; {size} and {SPARE_BYTES / 1e9:.0f} GB to spare are needed. "
                "Choose another --folder or a smaller cohort."
            )
        yield write_cohort(Path(place) / "made", size)


def write_cohort(folder: Path, size: Size, *, first: int = 0) -> Path:
    """The folder, with `labels.csv` and `features/*.pt`; slides are numbered, and drawn, from `first` on."""
    (folder / "features").mkdir(parents=True)
    generator, slides = torch.Generator().manual_seed(first), slide_names(size.slides, first)
    for slide in slides:
        torch.save(torch.randn(size.patches, size.width, generator=generator), folder / "features" / f"{slide}.pt")
    label_table(slides, size.tasks).to_csv(folder / "labels.csv", index=False)
    return folder


def slide_names(n_slides: int, first: int = 0) -> list[str]:
    return [f"slide{number:05d}" for number in range(first, first + n_slides)]


def label_table(slides: Sequence[str], n_tasks: int) -> pd.DataFrame:
    """Half of the slides positive for every task."""
    rng, half = np.random.default_rng(0), len(slides) // 2
    tasks = {f"task{number}": (rng.permutation(len(slides)) < half).astype(int) for number in range(n_tasks)}
    return pd.DataFrame({"case_id": [f"patient-{slide}" for slide in slides], "slide_id": slides, **tasks})
