"""Randomness: torch's generators, saved and set again, so that trainings side by side do not disturb each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Randomness:
    """The random numbers of one training. They continue where they stopped, whatever others drew in between.

    Attributes
    ----------
    states : uint8 tensors, the CPU's generator first, then the GPU's if the training is on one.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        with _generators_left_as_they_were(device):
            torch.manual_seed(seed)
            self.states = generator_states(device)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, torch draws this training's random numbers."""
        with _generators_left_as_they_were(self.device):
            set_generators(self.states, self.device)
            try:
                yield
            finally:
                self.states = generator_states(self.device)


def generator_states(device: torch.device) -> list[Tensor]:
    """States of the generators that a computation on `device` draws from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_generators(states: list[Tensor], device: torch.device) -> None:
    """Continue from `states`."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def _generators_left_as_they_were(device: torch.device) -> Iterator[None]:
    before = generator_states(device)
    try:
        yield
    finally:
        set_generators(before, device)
