"""Split files: milbench's own table, or another tool's, recognised by what lies there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from milbench.endpoints.endpoint import ALL_BINARY, Endpoint
from milbench.errors import SplitError, StoreError, unknown_name
from milbench.special_files import refuse_special
from milbench.splits import clam, eva, pathobench, stamp
from milbench.splits.deal import deal_in
from milbench.splits.other_tools import ForeignSplit, to_split
from milbench.splits.spelling import respelled
from milbench.splits.table import Split

WRITERS: dict[str, Callable[[Split, pd.DataFrame, Path], list[str]]] = {
    "clam": clam.write,
    "pathobench": pathobench.write,
    "stamp": stamp.write,
}


def read_split(
    path: Path, slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint] = ALL_BINARY
) -> Split:
    """The split in a file or folder, for the patients of `slides`.

    Raises
    ------
    SplitError : nothing that milbench knows, or something that does not fit the cohort.
    """
    refuse_special(path, SplitError)
    foreign = _foreign(path)
    if foreign is not None:
        return to_split(path, foreign, slides, tasks, endpoints)
    if path.is_dir():
        raise SplitError(
            f"the folder {path} holds no splits that milbench knows. Looked for: splits_0.csv, splits_1.csv, ... "
            f"(CLAM), {pathobench.FILE} (Patho-Bench), {stamp.FILE} (STAMP), {eva.FILE} (kaiko-eva). It holds {_names(path)}. If each side has a "
            "file of its own, or True and False per slide, write one splits_0.csv with the columns train, val, test."
        )
    return deal_in(_with_known_ids(Split.from_csv(path), slides), slides, tasks, endpoints)


def _names(folder: Path, most: int = 3) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "nothing"


def _with_known_ids(split: Split, slides: pd.DataFrame) -> Split:
    """The table with its patients spelled as the cohort spells them."""
    meant, notes = respelled(split.table["patient_id"], slides["patient_id"])
    if not meant:
        return split
    table = split.table.assign(patient_id=split.table["patient_id"].replace(meant))
    return replace(split, table=table, notes=(*split.notes, *notes))


def _foreign(path: Path) -> ForeignSplit | None:
    tables = [(tool.read, table) for tool in (pathobench, stamp, eva) if (table := tool.find(path))]
    is_clam = bool(clam.find(path))
    if len(tables) + is_clam > 1:
        raise SplitError(f"the folder {path} holds splits of more than one tool. Name the file that is meant.")
    if is_clam:
        return clam.read(path)
    return tables[0][0](tables[0][1]) if tables else None


def write_split(split: Split, slides: pd.DataFrame, tool: str, out: Path) -> list[str]:
    """Write `split` as `tool` reads it; returns notes on what the format cannot carry.

    Raises
    ------
    UsageError : an unknown tool.
    StoreError : `out` cannot be written.
    """
    if tool not in WRITERS:
        raise unknown_name("tool", tool, WRITERS)
    try:
        return WRITERS[tool](split, slides, out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}. Choose another --out.") from error
