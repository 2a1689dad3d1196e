"""Looks: colour, dash and marker of every model, by its name alone, from one table for figures, heatmaps and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#7F7F7F", "#000000")
"""Okabe and Ito's colours, which the colour-blind can tell apart, and two neutral ones."""

DASHES = {
    "solid": "-", "dash": "--", "dashdot": "-.", "dot": ":", "longdash": (0, (8, 2)),
    "longdashdot": (0, (5, 1, 1, 1, 1, 1)), "2px,2px": (0, (1, 1)), "10px,3px": (0, (3, 1)),
}  # fmt: skip
"""Plotly's name of a dash -> matplotlib's."""

SYMBOLS = {
    "circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "triangle-down": "v", "cross": "P", "x": "X",
    "star": "*", "pentagon": "p",
}  # fmt: skip
"""Plotly's name of a marker -> matplotlib's."""

WIDTH, HIGHLIGHTED_WIDTH = 1.3, 2.6


class Look(NamedTuple):
    """How a model is drawn everywhere.

    Attributes
    ----------
    colour : hexadecimal.
    dash, symbol : Plotly's names, keys of `DASHES` and `SYMBOLS`.
    """

    colour: str
    dash: str
    symbol: str


LOOKS = {
    "mean_pooling": Look("#0072B2", "solid", "circle"),
    "max_pooling": Look("#E69F00", "dash", "square"),
    "amil": Look("#009E73", "dashdot", "triangle-up"),
    "dsmil": Look("#CC79A7", "dot", "diamond"),
    "transmil": Look("#56B4E9", "longdashdot", "triangle-down"),
    "dtfd_mil": Look("#D55E00", "longdash", "cross"),
    "mmoe_amil": Look("#8C6D31", "2px,2px", "x"),
    "mmoe_mp_amil": Look("#7F7F7F", "10px,3px", "star"),
    "m4": Look("#000000", "solid", "pentagon"),
    "shared_bottom_amil": Look("#44AA99", "dash", "triangle-down"),
    "moe_amil": Look("#117733", "dot", "circle"),
    "ple_amil": Look("#AA4499", "longdash", "star"),
    "clam_sb": Look("#332288", "dash", "diamond"),
    "clam_mb": Look("#9A8FD8", "dashdot", "square"),
    "acmil": Look("#CC3311", "longdash", "triangle-up"),
    "ilra": Look("#D6BE5A", "solid", "cross"),
    "rrt_mil": Look("#882255", "dot", "x"),
    "wikg": Look("#A8B820", "dashdot", "pentagon"),
    "la_mil": Look("#7B3F00", "longdashdot", "circle"),
    "barspoon": Look("#FF9DB0", "2px,2px", "square"),
}
"""Registry name -> look of the models that come with milbench. A model keeps its look whatever it is compared with.

No two share a colour, nor a dash and marker. The nine of the study have the colours that are easiest to tell apart.
"""

MOST_TOGETHER = 10
"""Models beyond which bands and polygons of all in one panel hide each other."""


def looks_of(models: Sequence[str]) -> dict[str, Look]:
    """Look by model. A name outside the table gets the look that its letters give, or the next one that is free."""
    taken = {LOOKS[model] for model in models if model in LOOKS}
    found = {model: LOOKS[model] for model in models if model in LOOKS}
    for model in sorted(set(models) - set(LOOKS)):
        found[model] = _free_look(model, taken)
        taken.add(found[model])
    return {model: found[model] for model in models}


def _free_look(model: str, taken: set[Look]) -> Look:
    """The first look that no other has, starting where the name's checksum points."""
    colours, dashes, symbols = PALETTE, tuple(DASHES), tuple(SYMBOLS)
    number, last = crc32(model.encode()), len(colours) * len(dashes) * len(symbols)
    for step in range(last):
        place = (number + step) % last
        look = Look(
            colours[place % len(colours)],
            dashes[place // len(colours) % len(dashes)],
            symbols[place // len(colours) // len(dashes)],
        )
        if look not in taken:
            return look
    return look  # more models than looks: the last one is shared


def styles(models: Sequence[str], highlight: str = "") -> dict[str, dict[str, Any]]:
    """Line of every model as matplotlib takes it; the highlighted one is thick, filled and in front."""
    return {model: _style(look, highlighted=model == highlight) for model, look in looks_of(models).items()}


def _style(look: Look, *, highlighted: bool) -> dict[str, Any]:
    front = {"markerfacecolor": look.colour, "zorder": 5} if highlighted else {"markerfacecolor": "white"}
    return {
        "color": look.colour,
        "linestyle": DASHES[look.dash],
        "marker": SYMBOLS[look.symbol],
        "linewidth": HIGHLIGHTED_WIDTH if highlighted else WIDTH,
        "markersize": 5 if highlighted else 4,
        **front,
    }


def page_looks(models: Sequence[str], highlight: str = "") -> dict[str, Mapping[str, Any]]:
    """Look of every model as the page takes it."""
    return {model: {**look._asdict(), "highlighted": model == highlight} for model, look in looks_of(models).items()}
