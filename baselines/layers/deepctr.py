"""Checkpoints of DeepCTR-Torch's multi-task models: their sizes, and our names of their layers.

code     shenweichen/DeepCTR-Torch@f685425, `SharedBottom`, `MMOE`, `PLE`
differs  its gates have no bias, so ours get a bias of 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from milbench.errors import CheckpointError
from milbench_baselines.layers.checkpoint import Model, load_official, shape_of


def count(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    """How many modules a list of modules has: `count(weights, "out")` is the number of tasks."""
    return len({int(found[1]) for name in state_dict if (found := re.match(re.escape(prefix) + r"\.(\d+)\.", name))})


def n_tasks(state_dict: Mapping[str, Tensor]) -> int:
    """Number of tasks; each has one predicted probability.

    Raises
    ------
    CheckpointError : there is none.
    """
    found = count(state_dict, "out")
    if found == 0:
        raise CheckpointError("the checkpoint has no tensor 'out.0.bias'. Give the state dict of a DeepCTR-Torch model.")
    return found


def tower_width(state_dict: Mapping[str, Tensor]) -> int:
    """Width of the towers."""
    return shape_of(state_dict, "tower_dnn.0.linears.0.weight")[0]


def widths(state_dict: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Widths of the DNN at `prefix`: of its input, then of every layer."""
    n_layers = count(state_dict, f"{prefix}.linears")
    shapes = [shape_of(state_dict, f"{prefix}.linears.{layer}.weight") for layer in range(max(n_layers, 1))]
    return shapes[0][1], *(out for out, _ in shapes)


def dense_names(official: str, ours: str, n_layers: int) -> dict[str, str]:
    """Our prefixes of a DNN, which is a `Dense` here."""
    return {f"{official}.linears.{layer}": f"{ours}.{2 * layer}" for layer in range(n_layers)}


def tower_names(n_tasks: int) -> dict[str, str]:
    """Our prefixes of all towers. The bias of the official prediction layer is the bias of our last Linear."""
    names: dict[str, str] = {}
    for t in range(n_tasks):
        names |= dense_names(f"tower_dnn.{t}", f"towers.{t}", 1)
        names |= {f"tower_dnn_final_layer.{t}": f"towers.{t}.3", f"out.{t}": f"towers.{t}.3"}
    return names


def gate_names(hidden: str, last: str, ours: str, *, has_hidden_layer: bool) -> dict[str, str]:
    """Our prefixes of one gate, whose official layers are called `hidden` and `last`."""
    return {f"{hidden}.linears.0": f"{ours}.0", last: f"{ours}.2"} if has_hidden_layer else {last: ours}


def load(model: Model, state_dict: Mapping[str, Tensor], names: Mapping[str, str], gates: Sequence[str]) -> Model:
    """`model` in eval mode with the weights of an official `state_dict`; the last layers of its `gates` get a bias of 0."""
    biases = {f"{gate}.bias": torch.zeros(shape_of(state_dict, f"{gate}.weight")[0]) for gate in gates}
    return load_official(model, {**state_dict, **biases}, names)
