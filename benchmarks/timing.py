"""Interleaved timing: all contestants take turns inside each repetition, so that drift of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import TypeVar

Result = TypeVar("Result")


def interleaved(
    contestants: Mapping[str, Callable[[], Result]], repetitions: int, *, warm_ups: int = 1
) -> dict[str, list[Result]]:
    """What every contestant returned, by name, one entry a repetition; the first `warm_ups` are dropped."""
    found: dict[str, list[Result]] = {name: [] for name in contestants}
    for repetition in range(warm_ups + repetitions):
        for name, contestant in contestants.items():
            result = contestant()
            if repetition >= warm_ups:
                found[name].append(result)
    return found


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = perf_counter()
    work()
    return perf_counter() - started


def ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Median over repetitions of value / reference, both of the same repetition."""
    return median(value / reference for value, reference in zip(values, references, strict=True))
