"""Panel grid: small axes of one size on one figure, those of a task beside each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from milbench.report.figures import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 4

TITLE = 0.35
"""Inches of the figure's title."""

ROW, LETTER, BEFORE_TITLE = 0.18, 0.08, 0.62
"""Inches of a legend's row, of a letter and of what stands before a title, at the legend's type size."""


@dataclass(frozen=True)
class Room:
    """Inches of a panel and of what is around it.

    Attributes
    ----------
    width, height : of the axes.
    left, bottom : for the names along the axes.
    top : for the title of a panel.
    right : of the whole figure, as for a legend.
    least_height : of the whole figure, as for a legend.
    """

    width: float = 1.8
    height: float = 1.8
    left: float = 0.6
    bottom: float = 0.55
    top: float = 0.45
    right: float = 0.2
    least_height: float = 0.0

    def beside(self, titles: Collection[str]) -> Room:
        """The same with room at the right for a legend of `titles`."""
        right = max(self.right, legend_width(titles) + 0.1)
        return replace(self, right=right, least_height=legend_height(titles) + 2 * TITLE)  # clear of the figure's title


def legend_width(titles: Iterable[str]) -> float:
    """Inches that a legend of lines with these titles takes beside the panels."""
    return max(1.55, BEFORE_TITLE + LETTER * max(map(len, titles), default=0))


def legend_height(titles: Collection[str]) -> float:
    """Inches that a legend of lines with these titles takes from top to bottom."""
    return ROW * len(titles) + 0.3


def grid_places(groups: Sequence[str], columns: int = MOST_COLUMNS) -> list[tuple[int, int]]:
    """Row and column of every panel: each group, such as a task, begins a row unless all groups have one panel."""
    alone = len(set(groups)) == len(groups)
    found: list[tuple[int, int]] = []
    row, column, before = 0, 0, ""
    for group in groups:
        if found and (column == columns or (not alone and group != before)):
            row, column = row + 1, 0
        found.append((row, column))
        column, before = column + 1, group
    return found


def panel_grid(groups: Sequence[str], title: str, room: Room, columns: int = MOST_COLUMNS) -> tuple[Figure, list[Any]]:
    """A figure with its title, and one pair of axes per panel.

    Parameters
    ----------
    groups : of each panel, in order.
    """
    places = grid_places(groups, columns)
    n_rows, n_columns = 1 + max(row for row, _ in places), 1 + max(column for _, column in places)
    step = (room.left + room.width, room.top + room.height + room.bottom)
    width, height = max(n_columns * step[0] + room.right, 4.2), max(n_rows * step[1] + TITLE, room.least_height)
    figure = blank_figure((width, height))
    figure.text(0.5, 1 - 0.12 / height, title, ha="center", va="top", fontsize=11)
    axes = []
    for row, column in places:
        left, bottom = column * step[0] + room.left, height - TITLE - row * step[1] - room.top - room.height
        axes.append(figure.add_axes((left / width, bottom / height, room.width / width, room.height / height)))
    return figure, axes


def legend_right(figure: Figure, room: Room, title: str = "") -> None:
    """One legend for all panels, in the room to their right."""
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    at = 1 - (room.right - 0.1) / figure.get_figwidth()
    figure.legend(list(handles.values()), list(handles), loc="center left", bbox_to_anchor=(at, 0.5), frameon=False,
                  fontsize=8.5, handlelength=3, title=title or None)  # fmt: skip
