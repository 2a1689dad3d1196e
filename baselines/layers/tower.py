"""Tower: the two layers that each task has for itself, on top of what the experts share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from milbench.endpoints.outputs import Outputs
from milbench_baselines.layers.checkpoint import outputs_of_classes, shape_of
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import usual_on_own_bags
from milbench_baselines.layers.usual import is_made_of


class Tower(nn.Sequential):
    """Logits [O] of a mixture [hidden]: Linear, ReLU, Dropout, Linear (M4 paper, section 3.4)."""

    def __init__(self, hidden: int, width: int, dropout: float, n_outputs: int = 1) -> None:
        super().__init__(Linear(hidden, width), nn.ReLU(), Dropout(dropout), Linear(width, n_outputs))


def are_usual_towers(towers: nn.ModuleList) -> bool:
    """Whether functions of whole layers may take the place of all towers."""
    return is_made_of(towers, nn.ModuleList, *(Tower, Linear, nn.ReLU, Dropout, Linear) * len(towers))


def of_tasks(outputs: Outputs, hidden: int, width: int, dropout: float) -> nn.ModuleList:
    """Towers, one per task."""
    return nn.ModuleList(Tower(hidden, width, dropout, n_outputs) for n_outputs in outputs.widths)


def logits_of(towers: nn.ModuleList, mixtures: Tensor) -> Tensor:
    """Logits [W], task by task, of mixtures [T, hidden]: task t's mixture through tower t."""
    if not are_usual_towers(towers):
        return torch.cat([tower(own) for tower, own in zip(towers, mixtures, strict=True)])
    first, second = [tower[0] for tower in towers], [tower[3] for tower in towers]  # type: ignore[index]
    dropout = towers[0][2]  # type: ignore[index]                     # all towers have the same rate
    h = dropout(usual_on_own_bags(first, mixtures[:, None]).relu())  # [T, 1, width]; every entry drops out by itself
    return _last(second, h)                                           # [W]


def _last(layers: list[nn.Linear], h: Tensor) -> Tensor:
    """Outputs [W] of layer t on row h[t] of `h` [T, 1, width]; layers of one size share their products."""
    by_size: dict[int, list[int]] = {}
    for t, layer in enumerate(layers):
        by_size.setdefault(layer.out_features, []).append(t)
    if len(by_size) == 1:
        return usual_on_own_bags(layers, h).flatten()
    rows: dict[int, Tensor] = {}
    for tasks in by_size.values():
        own = torch.stack([h[t] for t in tasks])  # an index of numbers would make a GPU wait for the CPU
        rows.update(zip(tasks, usual_on_own_bags([layers[t] for t in tasks], own).squeeze(1), strict=True))
    return torch.cat([rows[t] for t in range(len(layers))])


def official_names(n_tasks: int) -> dict[str, str]:
    """Our prefix of every official prefix of all towers."""
    return {f"towers.{t}.fc{i}": f"towers.{t}.{0 if i == 1 else 3}" for t in range(n_tasks) for i in (1, 2)}


def official_outputs(state_dict: Mapping[str, Tensor], n_tasks: int) -> Outputs:
    """Outputs of an official checkpoint: a tower of one output is a binary task, one of three or more has classes."""
    return outputs_of_classes(*(shape_of(state_dict, f"towers.{t}.fc2.weight")[0] for t in range(n_tasks)))


def without_dead_layers(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Checkpoint without the experts' Linear hidden -> 4, which no forward uses."""
    return {name: tensor for name, tensor in state_dict.items() if ".classifier." not in name}
