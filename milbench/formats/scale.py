"""Scale: whether patches were read at one and the same size of a pixel, or magnification."""

from __future__ import annotations

from collections.abc import Iterable

TOLERANCE = 0.02
"""Share by which two scales may differ and still count as one: scanners of one magnification differ by as much."""

_ROUNDING = 1e-9


def is_one_scale(values: Iterable[float]) -> bool:
    """Whether the largest value exceeds the smallest one by 2 % at most; true of none.

    >>> is_one_scale([0.5, 0.5021]), is_one_scale([0.5, 0.25])
    (True, False)
    """
    found = list(values)
    return not found or max(found) <= min(found) * (1 + TOLERANCE + _ROUNDING)
