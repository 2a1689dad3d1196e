"""Leaderboard: one page on all bundles of a folder, compared where they asked the same, each marked if it could be verified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from milbench.bundles.board_page import Board, Group, render
from milbench.bundles.comparison import compare_on
from milbench.bundles.gathering import labels_of
from milbench.bundles.layout import HEADER
from milbench.bundles.same_question import Side, reasons_against
from milbench.bundles.verify import Verdict, opened, verify_folder
from milbench.errors import MilbenchError, StoreError
from milbench.store.files import write_atomically, writing


class Entry(NamedTuple):
    """A bundle that could be opened."""

    side: Side
    verdict: Verdict


def bundles_in(folder: Path) -> list[Path]:
    """Bundles that lie in a folder: zips, and folders with a `bundle.json`.

    Raises
    ------
    StoreError : there is none.
    """
    found = [
        path
        for path in sorted(folder.iterdir() if folder.is_dir() else [])
        if not path.name.startswith(".") and (path.suffix.lower() == ".zip" or (path / HEADER).is_file())
    ]
    if not found:
        raise StoreError(
            f"{folder} holds no bundles: no zip, and no folder with {HEADER}. Make them with `milbench bundle`."
        )
    return found


def leaderboard(folder: Path, out: Path, draws: int, told: Callable[[str], None]) -> Board:
    """What the page at `out` shows, once it is written.

    Parameters
    ----------
    draws : of the bootstrap over patients and folds.
    told : is called with a line on each bundle.

    Raises
    ------
    StoreError : there is no bundle in the folder, or `out` cannot be written.
    """
    paths = bundles_in(folder)
    entries: list[Entry] = []
    broken: dict[str, str] = {}
    with ExitStack() as stack:
        for path, label in zip(paths, labels_of(paths), strict=True):
            try:
                root, header, run = stack.enter_context(opened(path))
                verdict = verify_folder(root, header, run)
            except MilbenchError as error:
                broken[label] = str(error).replace(str(path), path.name)
                told(f"{label}: cannot be read")
                continue
            entries.append(Entry(Side(label, run, header.salt), verdict))
            told(
                f"{label}: {'verified' if verdict.is_equal else f'not verified, {len(verdict.differences)} differences'}"
            )
        board = Board({entry.side.label: entry.verdict for entry in entries}, broken, _groups(entries, draws))
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, render(board).encode())
    return board


def _groups(entries: Sequence[Entry], draws: int) -> list[Group]:
    """Bundles of each cohort that asked the same question, compared; others have a group of their own."""
    found: list[Group] = []
    sides = [entry.side for entry in entries]
    for dataset in sorted({name for side in sides for name in side.datasets}):
        together: list[tuple[list[Side], list[str]]] = []
        for side in (side for side in sides if dataset in side.datasets):
            _seat(side, dataset, together)
        for members, reasons in together:
            try:
                compared = compare_on(members, dataset, draws)
            except MilbenchError as error:
                found.append(Group(dataset, tuple(side.label for side in members), (), (*reasons, str(error))))
            else:
                found.append(Group(dataset, tuple(side.label for side in members), tuple(compared), tuple(reasons)))
    return found


def _seat(side: Side, dataset: str, together: list[tuple[list[Side], list[str]]]) -> None:
    """Put a side to the first group that it can be compared with, or into a new one, with the reasons."""
    reasons: list[str] = []
    for members, _ in together:
        why = reasons_against(members[0], side, dataset)
        if not why:
            members.append(side)
            return
        reasons += why
    together.append(([side], reasons))
