"""Feature facts of a cohort: what its feature files tell of their making, counted over slides from their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from milbench.formats import SlideHeader
from milbench.store.feature_facts import MOST_VALUES
from milbench.visible import shortened, visible_line

LONGEST_KEPT = 1000
"""Letters of a value that a run keeps: a file may hold any text."""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


FACTS: Mapping[str, Callable[[SlideHeader], str]] = {
    "encoder": lambda header: header.encoder,
    "weights_sha256": lambda header: header.weights_sha256,
    "mpp": lambda header: _number(header.mpp),
    "magnification": lambda header: _number(header.magnification),
    "patch_size": lambda header: f"{header.patch_size:.7g} {header.unit}" if header.patch_size else "",
    "transform": lambda header: header.transform,
    "width": lambda header: str(header.width),
    "dtype": lambda header: header.dtype,
}
"""Each fact of a file as a text; empty where the file does not tell."""


def feature_facts(headers: Iterable[SlideHeader]) -> dict[str, dict[str, int]]:
    """Number of slides by value, by fact, the commonest values alone; empty if there is no header."""
    known = list(headers)
    if not known:
        return {}
    counts = {fact: Counter(_kept(value(header)) for header in known) for fact, value in FACTS.items()}
    return {fact: dict(found.most_common(MOST_VALUES)) for fact, found in counts.items()}


def _kept(value: str) -> str:
    return shortened(visible_line(value), LONGEST_KEPT)
