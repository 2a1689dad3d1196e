"""Gates: how much each expert counts. One gate for all tasks is MoE's, one per task MMoE's, levels of gates are PLE's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.side_by_side import linear_on_own_bags, linear_on_row
from milbench_baselines.layers.usual import are_linear, are_relu, is_usual


class Gates(nn.ModuleList):
    """Weights [K, E] of E experts by K gates: g_k = softmax over e of W_k x_k + b_k.

    Parameters
    ----------
    in_features : width I of what a gate reads.
    n_experts, n_gates : E and K.
    hidden : width of a ReLU layer before the Linear; 0 = none.
    """

    def __init__(self, in_features: int, n_experts: int, n_gates: int, *, hidden: int = 0) -> None:
        super().__init__(_gate(in_features, n_experts, hidden) for _ in range(n_gates))
        self.has_hidden_layer = hidden > 0

    def forward(self, x: Tensor) -> Tensor:
        """Weights [K, E]; all gates read the row `x` [I], or gate k reads row k of `x` [K, I]."""
        if self.has_hidden_layer and not all(map(_is_usual, self)):
            return torch.stack([gate(row) for gate, row in zip(self, x.expand(len(self), -1), strict=True)]).softmax(-1)
        if not self.has_hidden_layer:
            return _each(self, x).softmax(-1)
        h = _each([gate[0] for gate in self], x).relu()  # type: ignore[index]         # [K, hidden]
        return _each([gate[2] for gate in self], h).softmax(-1)  # type: ignore[index]  # [K, E]


def _gate(in_features: int, n_experts: int, hidden: int) -> nn.Module:
    if hidden == 0:
        return Linear(in_features, n_experts)
    return nn.Sequential(Linear(in_features, hidden), nn.ReLU(), Linear(hidden, n_experts))


def _is_usual(gate: Any) -> bool:
    """Whether functions of whole layers may take the place of a gate with a hidden layer."""
    return is_usual(gate, nn.Sequential) and are_linear(gate[0], gate[2]) and are_relu(gate[1])


def _each(layers: nn.ModuleList | list[nn.Module], x: Tensor) -> Tensor:
    """Outputs [K, O] of K layers for one row [I], or for a row of each [K, I]."""
    return linear_on_row(layers, x) if x.dim() == 1 else linear_on_own_bags(layers, x[:, None]).squeeze(1)


class Extraction(nn.Module):
    """Weights [T + 1, E] of one level of PLE: a row per task, and one for the shared experts of the next level.

    The E = T S + H experts stand in this order: S own experts of each task, task by task, then the H shared experts.
    Task t's gate reads u_t and weights its own experts and the shared ones; its weights of other tasks' experts are 0.
    The shared gate reads u_T (row T, the last) and weights all experts.

    Parameters
    ----------
    in_features : width I of what a gate reads.
    n_tasks, own, shared : T, S and H.
    gate_hidden : width of a ReLU layer in each gate; 0 = none.
    shared_gate : whether there is a shared gate; False leaves out the last row.
    """

    def __init__(
        self, in_features: int, n_tasks: int, own: int, shared: int, *, gate_hidden: int = 0, shared_gate: bool = True
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_own, self.n_shared = n_tasks, own, shared
        self.of_tasks = Gates(in_features, own + shared, n_tasks, hidden=gate_hidden)
        self.of_all = Gates(in_features, n_tasks * own + shared, 1, hidden=gate_hidden) if shared_gate else None

    def forward(self, u: Tensor) -> Tensor:
        """Weights [T + 1, E], or [T, E] without a shared gate; all gates read `u` [I], or gate t its row of `u` [T + 1, I]."""
        tasks, rest = (u, u) if u.dim() == 1 else (u[: self.n_tasks], u[self.n_tasks :])
        own, shared = self.of_tasks(tasks).split([self.n_own, self.n_shared], dim=1)  # [T, S], [T, H]
        # diag_embed writes 0 at other tasks' experts without an in-place write, which vmap does not have
        spread = own.T.diag_embed().permute(1, 2, 0).flatten(1)                       # [T, T S]
        weights = torch.cat([spread, shared], dim=1)                                  # [T, E]
        return weights if self.of_all is None else torch.cat([weights, self.of_all(rest)])

    def inputs(self, rows: Tensor) -> Tensor:
        """Rows [E, ...] that the E experts of this level read, of `rows` [T + 1, ...]: own experts read their task's row."""
        own = rows[: self.n_tasks, None].expand(-1, self.n_own, *rows.shape[1:]).flatten(0, 1)
        return torch.cat([own, rows[self.n_tasks :].expand(self.n_shared, *rows.shape[1:])])
