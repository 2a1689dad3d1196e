"""Randomness: the generators that a model draws from, set and put back, so that trainings do not disturb each other.

Torch's generators continue where a training stopped. NumPy's and Python's start anew at each use, from the seed and the
number of the use: their states are large, and saving them at each step would take longer than a small step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from milbench.process.generators import global_generators, seed_global_generators, set_global_generators


class Randomness:
    """The random numbers of one training. They continue where they stopped, whatever others drew in between.

    Whoever uses it puts NumPy's and Python's generators back at the end (`generators_left_as_they_were`).

    Attributes
    ----------
    states : uint8 tensors, the CPU's generator first, then the GPU's if the training is on one.
    uses : how often random numbers were drawn so far.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device, self.uses = seed, device, 0
        # as `torch.manual_seed` would leave the generators; that asks every kind of device, which takes milliseconds
        kinds = [torch.device("cpu"), *([device] if device.type == "cuda" else [])]
        self.states = [torch.Generator(kind).manual_seed(seed).get_state() for kind in kinds]
        self._generators: dict[str, torch.Generator] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, torch, NumPy and Python draw this training's random numbers."""
        with _generators_left_as_they_were(self.device):
            set_generators(self.states, self.device)
            seed_global_generators(self.seed, self.uses)
            self.uses += 1
            try:
                yield
            finally:
                self.states = generator_states(self.device)

    def generators(self) -> dict[str, torch.Generator]:
        """By type of device, generators that draw what would be drawn `in_use`, for `moved_to`. They are the same at each call."""
        for state, device in zip(self.states, (torch.device("cpu"), self.device), strict=False):
            if device.type not in self._generators:
                self._generators[device.type] = torch.Generator(device)
            self._generators[device.type].set_state(state)
        return self._generators

    def moved_to(self, generators: Mapping[str, torch.Generator]) -> None:
        """Count one use. Go on where these generators are; empty = nothing was drawn from them."""
        if generators:
            self.states = [each.get_state() for each in generators.values()]
        self.uses += 1

    def mark(self) -> tuple[list[Tensor], int]:
        """Where the random numbers are now, for `go_back`."""
        return self.states, self.uses

    def go_back(self, mark: tuple[list[Tensor], int]) -> None:
        """Draw again what was drawn after the mark."""
        self.states, self.uses = mark

    def start_again(self, mark: tuple[list[Tensor], int]) -> None:
        """Inside `in_use`, draw from the mark on, as if it had been gone back to before.

        Setting states takes less time than to find out if they have changed.
        """
        states, uses = mark
        set_generators(states, self.device)
        seed_global_generators(self.seed, uses)


class DrawnAgain:
    """Every generator as it is now, so that the same random numbers can be drawn again."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.torch, self.others = device, generator_states(device), global_generators()

    def rewind(self) -> None:
        """Set every generator to where it was."""
        set_generators(self.torch, self.device)
        set_global_generators(self.others)


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
