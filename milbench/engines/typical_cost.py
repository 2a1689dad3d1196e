"""Typical cost: what a model takes for one bag of usual size, counted and not measured, so that it is the same anywhere.

Models of others are counted in a process of their own, because they may kill it or never come back. This file is that
process too::

    python -m milbench.engines.typical_cost ANSWER MODEL PLUGIN ...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from milbench.registry import is_baseline, load_models

if TYPE_CHECKING:  # a page whose cost is known needs no torch
    from milbench.models import MILModel

PATCHES, FEATURES = 8000, 1024
"""A large slide, and the width of common extractors."""

BYTES_PER_NUMBER = 4

LONGEST_SECONDS = 60.0
"""That a model of others may take, the start of Python and torch included."""


class TypicalCost(NamedTuple):
    """Cost of one binary task and one bag of `PATCHES` patches x `FEATURES` features, with the default arguments.

    Attributes
    ----------
    parameters : numbers that are learned.
    multiply_adds : of one forward, as `milbench.engines.cost` counts them; None if it cannot tell.
    step_bytes : memory of a training step: activations, weights with all that goes with them, and the bag.
    """

    parameters: int
    multiply_adds: int | None
    step_bytes: int


def typical_cost(model: type[MILModel], plugins: Sequence[Path] = ()) -> TypicalCost | None:
    """Cost of the model; None if it cannot be built, or takes no such bag.

    No step on a large bag is run: multiply-adds are counted without numbers, and memory is a line through two small bags.

    Parameters
    ----------
    plugins : the files that registered models of others.
    """
    if not is_baseline(model):
        return _in_a_process(model, plugins)
    try:
        return _counted(model)
    except Exception:  # noqa: BLE001 - a page must not fail because counting failed
        return None


def _counted(model: type[MILModel]) -> TypicalCost:
    from milbench.engines.cost import multiply_adds
    from milbench.engines.model_memory import COPIES_OF_WEIGHTS
    from milbench.models import build
    from milbench.training.activations import activation_cost

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = build(model, FEATURES, 1, {}, seed=0)
        step = activation_cost(built).of(PATCHES) + COPIES_OF_WEIGHTS * sum(each.nbytes for each in built.parameters())
        return TypicalCost(
            parameters=sum(each.numel() for each in built.parameters() if each.requires_grad),
            multiply_adds=multiply_adds(model, FEATURES, 1, {}, at_patches=PATCHES),
            step_bytes=step + PATCHES * FEATURES * BYTES_PER_NUMBER,
        )


def _in_a_process(model: type[MILModel], plugins: Sequence[Path]) -> TypicalCost | None:
    with tempfile.TemporaryDirectory() as folder:
        answer, nowhere = Path(folder) / "answer", subprocess.DEVNULL
        command = [
            sys.executable,
            "-m",
            "milbench.engines.typical_cost",
            str(answer),
            model.info.name,
            *map(str, plugins),
        ]
        try:
            subprocess.run(  # noqa: S603 - this interpreter, with this file
                command, stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=LONGEST_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        return TypicalCost(*json.loads(answer.read_text())) if answer.exists() else None


def main(answer: Path, name: str, plugins: Sequence[Path]) -> None:
    """Write the model's cost to `answer`, in one step: a model that ends the process leaves no file."""
    cost = json.dumps(_counted(load_models(plugins)[name]))
    answer.write_text(cost)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(plugin) for plugin in sys.argv[3:]])
    os._exit(0)  # a thread that the model has started may never end
