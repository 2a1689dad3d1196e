"""Units: numbers as they are read, "9.7 µs" and not 0.0000097 s."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median_low

COUNT, SECONDS, BYTES, JOULES = "", "s", "B", "J"

STEPS: dict[str, tuple[tuple[float, str], ...]] = {
    COUNT: ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")),
    SECONDS: ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    BYTES: ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    JOULES: ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")),
}
"""Unit -> its sizes with their names, largest first."""


def step_for(value: float, unit: str) -> tuple[float, str]:
    """Size and name in which `value` is at least 1; two minutes and two hours come first, "90 s" reads better."""
    for size, name in STEPS[unit]:
        least = 2 * size if name in ("h", "min") else size
        if abs(value) >= least * (1 - 1e-9):
            return size, name
    return STEPS[unit][-1]


def in_words(value: float, unit: str = COUNT) -> str:
    """The value with a unit in which it reads well: "9.7 µs", "1.2 M", "602 MB"."""
    if value == 0:
        return f"0 {unit}".strip()
    size, name = step_for(value, unit)
    return f"{digits(value / size)} {name}".strip()


def digits(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{round(value, places):,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shared_step(values: Iterable[float], unit: str) -> tuple[float, str]:
    """One size and name for a whole column: that of the column's middle value."""
    known = [abs(value) for value in values if math.isfinite(value) and value]
    return step_for(median_low(known), unit) if known else STEPS[unit][-1]


def nice_ticks(low: float, high: float, unit: str) -> list[float]:
    """Values of 1, 2 and 5 times a power of ten between the ends, in the unit's own sizes; at most eight."""
    wanted = [step * 10.0**power for power in range(-12, 19) for step in (1, 2, 5)]
    if unit == SECONDS:
        minutes = [60.0 * n for n in (2, 5, 10, 30, 60)]
        hours = [3600.0 * step * 10**power for power in range(5) for step in (2, 5, 10)]
        wanted = [value for value in wanted if value < 100] + minutes + hours
    found = sorted({value for value in wanted if low <= value <= high})
    every = math.ceil(len(found) / 8)
    return found[:: every or 1]
