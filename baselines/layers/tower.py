"""Tower: the two layers that each task has for itself, on top of what the experts share."""

from __future__ import annotations

from torch import Tensor, nn

from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.side_by_side import linear_on_own_bags


class Tower(nn.Sequential):
    """Logit [1] of a mixture [hidden]: Linear, ReLU, Dropout, Linear (M4 paper, section 3.4)."""

    def __init__(self, hidden: int, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(hidden, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, 1))


def logits_of(towers: nn.ModuleList, mixtures: Tensor) -> Tensor:
    """Logits [T] of mixtures [T, hidden]: task t's mixture through tower t."""
    first, second = [tower[0] for tower in towers], [tower[3] for tower in towers]  # type: ignore[index]
    dropout = towers[0][2]  # type: ignore[index]                     # all towers have the same rate
    h = dropout(linear_on_own_bags(first, mixtures[:, None]).relu())  # [T, 1, width]; every entry drops out by itself
    return linear_on_own_bags(second, h).flatten()                    # [T]


def official_names(n_tasks: int) -> dict[str, str]:
    """Our prefix of every official prefix of all towers."""
    return {f"towers.{t}.fc{i}": f"towers.{t}.{0 if i == 1 else 3}" for t in range(n_tasks) for i in (1, 2)}


def without_dead_layers(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Checkpoint without the experts' Linear hidden -> 4, which no forward uses."""
    return {name: tensor for name, tensor in state_dict.items() if ".classifier." not in name}
