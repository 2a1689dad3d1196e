"""Randomness: torch's generators put aside and taken up again, so that trainings side by side do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """What one training draws from: it goes on where it stopped, whatever others drew in between.

    Attributes
    ----------
    states : uint8 tensors, the CPU's generator first, then the GPU's if the training is on one.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        with _untouched(device):
            torch.manual_seed(seed)
            self.states = current(device)

    @contextmanager
    def taken_up(self) -> Iterator[None]:
        """Inside the block torch draws from here."""
        with _untouched(self.device):
            restore(self.states, self.device)
            try:
                yield
            finally:
                self.states = current(self.device)


def current(device: torch.device) -> list[Tensor]:
    """States of the generators that a computation on `device` draws from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore(states: list[Tensor], device: torch.device) -> None:
    """Go on from `states`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def _untouched(device: torch.device) -> Iterator[None]:
    """Leave the process's generators as they were."""
    before = current(device)
    try:
        yield
    finally:
        restore(before, device)
