"""Tower: a task's own two layers on top of what the experts share."""

from __future__ import annotations

from torch import Tensor, nn


class Tower(nn.Sequential):
    """Logit [1] of a mixture [hidden]: Linear, ReLU, Dropout, Linear (M4 paper, section 3.4)."""

    def __init__(self, hidden: int, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(hidden, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))

def official_names(n_tasks: int) -> dict[str, str]:
    """Official prefix -> ours, of all towers."""
    return {f"towers.{t}.fc{i}": f"towers.{t}.{0 if i == 1 else 3}" for t in range(n_tasks) for i in (1, 2)}


def without_dead_layers(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint without the experts' Linear hidden -> 4 that no forward uses."""
    return {name: tensor for name, tensor in state_dict.items() if ".classifier." not in name}
