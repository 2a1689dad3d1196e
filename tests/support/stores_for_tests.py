"""Feature stores over made-up bags, and their threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor

from milbench.bag import Bag
from milbench.serving.feature_store import FeatureStore
from milbench.serving.read_ahead import AHEAD, THREAD

CPU, META = torch.device("cpu"), torch.device("meta")
SLIDES = [f"s{i}" for i in range(8)]
WAIT = 20.0
"""Seconds after which a thread that should have done something never will."""


def bag(slide_id: str, rows: int = 4) -> Tensor:
    """Features [rows, 2] float32 that tell their slide: 8 bytes per row."""
    return torch.full((rows, 2), float(slide_id[1:]))


class Loads:
    """A loader that remembers what was asked of it."""

    def __init__(self, rows: dict[str, int] | None = None) -> None:
        self.rows = rows or {}
        self.seen: list[str] = []

    def __call__(self, slide_id: str) -> Tensor:
        self.seen.append(slide_id)
        return bag(slide_id, self.rows.get(slide_id, 4))


def store_of(
    load: Callable[[str], Tensor],
    *,
    device_bytes: int = 0,
    host_bytes: int = 0,
    device: torch.device = CPU,
    most_ahead: int = AHEAD,
    ahead_bytes: int = 0,
) -> FeatureStore:
    return FeatureStore(
        lambda slide: Bag(load(slide), slide),
        device=device,
        device_bytes=device_bytes,
        host_bytes=host_bytes,
        most_ahead=most_ahead,
        ahead_bytes=ahead_bytes,
    )


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


def until(true: Callable[[], bool]) -> bool:
    """Whether `true` comes true before a deadline that only a failure meets."""
    deadline = time.monotonic() + WAIT
    while not true() and time.monotonic() < deadline:
        time.sleep(0.001)
    return true()
