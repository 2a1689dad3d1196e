"""kaiko-eva's split: the column `split` of `manifest.csv`, which says train, val or test of each slide. It is one fold."""

from __future__ import annotations

from pathlib import Path

from milbench.errors import LabelTableError, SplitError
from milbench.labels.cells import read_table
from milbench.labels.eva import SPLIT, recognises, slide_ids
from milbench.splits.other_tools import ForeignSplit
from milbench.splits.pathobench import header_of
from milbench.splits.table import ROLES

FILE = "manifest.csv"
EXPECTED = "Expected kaiko-eva's columns origin, embeddings, target and split"


def find(path: Path) -> Path | None:
    """The manifest, given itself or its folder; None if it is not kaiko-eva's."""
    file = path / FILE if path.is_dir() else path
    return file if file.name == FILE and file.is_file() and recognises(header_of(file)) else None


def read(path: Path) -> ForeignSplit:
    """The one fold of a manifest, by slide.

    Raises
    ------
    SplitError : unreadable, a slide without a side, or no test side.
    """
    try:
        cells = read_table(path, EXPECTED).cells
    except LabelTableError as error:
        raise SplitError(str(error)) from error
    if SPLIT not in cells:
        raise SplitError(f"{path}: columns are {', '.join(cells)}. {EXPECTED}.")
    roles = dict(zip(slide_ids(cells), cells[SPLIT], strict=True))
    for line, role in cells[SPLIT].items():
        if role not in ROLES:
            raise SplitError(
                f"{path}: split is '{role}' in line {line}; expected {', '.join(ROLES)}. Fill it in, or let milbench draw "
                "a split: `splits: kfold`."
            )
    if "test" not in roles.values():
        raise SplitError(
            f"{path} names no test side. If its val side was only reported on, write test in its place, in a copy: milbench "
            "then draws a validation side. Or let milbench draw the split: `splits: kfold`."
        )
    return ForeignSplit("kaiko-eva", [roles])
