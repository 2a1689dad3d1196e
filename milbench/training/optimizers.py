"""Optimisers: those of the recipes, for one model or a stack. Torch does not have one of them, TransMIL's choice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer, RAdam

from milbench.errors import UsageError
from milbench.trials.recipe import Recipe

HAS_ONE_CALL = hasattr(torch, "_fused_adam_") and hasattr(torch, "_fused_adamw_")
"""Whether this torch has the functions behind its fused Adam, which it does not promise. Without them, its own class is used."""


class Uncompiled:
    """Methods of torch's optimisers as they are below the wrapper that keeps torch's compiler away from them.

    The wrapper imports the compiler to do so, which takes every process that trains a second. Nothing here is compiled.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - as in torch
        """Forget all gradients, or make them 0. No profiler is told, which takes longer than it."""
        if not set_to_none:
            _fill_with_zeros(self, set_to_none=False)
            return
        for group in self.param_groups:  # type: ignore[attr-defined]
            for p in group["params"]:
                p.grad = None


_fill_with_zeros = unwrap(Optimizer.zero_grad)


class LookaheadRAdam(Uncompiled, RAdam):
    """RAdam that pulls its weights back to a slower copy of themselves every few steps.

    RAdam's step (Liu et al., ICLR 2020, decoupled weight decay) is torch's own. After every
    `sync_period` steps the slow weights move `slow_share` of the way to the fast ones, which
    restart from there (Zhang et al., NeurIPS 2019)::

        slow <- slow + slow_share * (fast - slow);  fast <- slow

    As in szc19990412/TransMIL@9d6aee5 the slow copy is first taken AT the first synchronisation,
    which therefore changes nothing; the paper takes it before the first step. The copy and the
    step count live in `state`, so `state_dict` holds all that a resumed training needs.

    Parameters
    ----------
    params : parameters or groups, as for every torch optimiser.
    lr, betas, eps, weight_decay : RAdam's own.
    sync_period : steps between two synchronisations.
    slow_share : fraction of the way that the slow weights go, in (0, 1].

    Raises
    ------
    UsageError : `sync_period` is below 1 or `slow_share` is outside (0, 1].
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        sync_period: int = 6,
        slow_share: float = 0.5,
    ) -> None:
        if sync_period < 1:
            raise UsageError(f"sync_period is {sync_period}; expected at least one step.")
        if not 0 < slow_share <= 1:
            raise UsageError(f"slow_share is {slow_share}; expected a fraction above 0 and at most 1.")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)
        self.sync_period = sync_period
        self.slow_share = slow_share

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Loss of `closure`, if there is one, before the weights moved."""
        loss: float | None = _step_of_radam(self, closure)
        for parameter, state in self.state.items():
            if state and int(state["step"]) % self.sync_period == 0:  # none where no gradient ever came
                self._synchronise(parameter, state)
        return loss

    @torch.no_grad()
    def _synchronise(self, parameter: Tensor, state: dict[str, Any]) -> None:
        if "slow" not in state:
            state["slow"] = parameter.detach().clone()
            return
        state["slow"].lerp_(parameter, self.slow_share)
        parameter.copy_(state["slow"])


_step_of_radam = torch.no_grad()(unwrap(RAdam.step))
"""RAdam's step as it is below its wrapper, for the same reason as in `Uncompiled`."""


class AdamInOneCall(Uncompiled, Adam):
    """torch's Adam or AdamW, bit for bit, with little done for each parameter before the one call that moves all.

    torch prepares each tensor and counts the steps of each by an operation of its own. A small model of a hundred tensors waits
    longer for that than for its numbers to move. Here parameters that move together share their count.

    Parameters
    ----------
    groups : parameters of one dtype on one device.
    decoupled : whether weights decay by themselves (AdamW), not through the gradient (Adam).
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], *, decoupled: bool
    ) -> None:
        super().__init__(groups, lr, betas, fused=True, decoupled_weight_decay=decoupled)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if len(moved) < len(group["params"]):
                self._stop_counts([p for p in group["params"] if p.grad is None])
            if moved:
                self._move(moved, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states, no_step = [self.state[p] for p in parameters], torch.zeros((), device=parameters[0].device)
        for p, state in zip(parameters, states, strict=True):
            if not state:
                state |= {"step": no_step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        counts = [state["step"] for state in states]
        for count in {id(count): count for count in counts}.values():
            count += 1
        move_all = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        move_all(
            parameters, [p.grad for p in parameters if p.grad is not None], [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states], [], counts, lr=group["lr"], beta1=group["betas"][0],
            beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
        )  # fmt: skip

    def _stop_counts(self, parameters: Iterable[Tensor]) -> None:
        """Let these parameters, which the step leaves alone, have counts of their own."""
        for p in parameters:
            if p in self.state:
                self.state[p]["step"] = self.state[p]["step"].clone()


class AdamByRow(Uncompiled, Optimizer):
    """Adam or AdamW over stacks [S, ...] of S models, each with a learning rate and a weight decay of its own.

    torch's Adam has one rate per tensor, and a stack is one tensor. The arithmetic is torch's (Kingma and Ba, ICLR 2015;
    Loshchilov and Hutter, ICLR 2019), and so is what `state` holds.

    Parameters
    ----------
    groups : parameters, with "weight_decay" as a list of S numbers.
    lr : S numbers. In each group, "lr" may be changed between two steps.
    decoupled : whether weights decay by themselves (AdamW), not through the gradient (Adam).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        decoupled: bool,
    ) -> None:
        super().__init__(groups, {"lr": list(lr), "betas": betas, "eps": eps, "decoupled": decoupled})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every row of every parameter that has a gradient."""
        for group in self.param_groups:
            lr, decay = (group["params"][0].new_tensor(group[key]) for key in ("lr", "weight_decay"))  # [S]
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, _as_rows(lr, p), _as_rows(decay, p), group)

    def _move(self, p: Tensor, gradient: Tensor, lr: Tensor, decay: Tensor, group: dict[str, Any]) -> None:
        """Move one parameter; lr and decay are [S, 1, ...]."""
        state, (beta1, beta2) = self.state[p], group["betas"]
        if not state:
            state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        state["step"] += 1
        n_steps, mean, square = state["step"].item(), state["exp_avg"], state["exp_avg_sq"]
        if group["decoupled"]:
            p.mul_(1 - lr * decay)
        else:
            gradient = torch.addcmul(gradient, p, decay)
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        deviation = square.sqrt().div_((1 - beta2**n_steps) ** 0.5).add_(group["eps"])
        p.addcmul_(mean / deviation, lr, value=-1 / (1 - beta1**n_steps))


def _as_rows(values: Tensor, like: Tensor) -> Tensor:
    """Values [S] as [S, 1, ...], to multiply a stack with."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def make_optimizer(
    parameters: Mapping[str, Tensor],
    recipe: Recipe,
    *,
    stacked: bool = False,
    undecayed: Iterable[Tensor] = (),
    by_row: Sequence[Recipe] = (),
) -> Optimizer:
    """The recipe's optimiser over all parameters. If `stacked`, they are [S, ...], and one step moves every model.

    Parameters
    ----------
    undecayed : moved too, without weight decay.
    by_row : recipes of the S models of a stack that differ in learning rate or weight decay; empty = all follow `recipe`.

    Raises
    ------
    ValueError : rates differ, and the optimiser has none that does that.
    """
    is_matrix = {name: p.ndim - stacked >= 2 for name, p in parameters.items()}
    matrices = [p for name, p in parameters.items() if recipe.decay_vectors or is_matrix[name]]
    vectors = [p for name, p in parameters.items() if not recipe.decay_vectors and not is_matrix[name]]
    vectors += undecayed
    if by_row:
        return _by_row(matrices, vectors, by_row)
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "lookahead_radam":
        return LookaheadRAdam(groups, lr=recipe.lr, betas=recipe.betas)
    decoupled = recipe.optimizer == "adamw"
    if HAS_ONE_CALL and len({(p.device, p.dtype) for p in (*matrices, *vectors)}) == 1:
        return AdamInOneCall(groups, recipe.lr, recipe.betas, decoupled=decoupled)
    make = torch.optim.AdamW if decoupled else Adam
    # `fused` does the same arithmetic in one pass over all tensors: it matters for models of many small ones
    return make(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def _by_row(decayed: list[Tensor], undecayed: list[Tensor], recipes: Sequence[Recipe]) -> AdamByRow:
    """The optimiser of a stack whose rows have these recipes."""
    first = recipes[0]
    if not first.stacks_with_other_rates:
        raise ValueError(f"{first.optimizer} has one learning rate for all models of a stack")
    groups = [
        {"params": decayed, "weight_decay": [recipe.weight_decay for recipe in recipes]},
        {"params": undecayed, "weight_decay": [0.0] * len(recipes)},
    ]
    return AdamByRow(
        [group for group in groups if group["params"]],
        [recipe.lr for recipe in recipes],
        first.betas,
        decoupled=first.optimizer == "adamw",
    )


def clip_each_part(parameters: Mapping[str, Tensor], max_norm: float, *, stacked: bool = False) -> None:
    """Bound the gradient norm of each top-level part of each model separately, as `clip_grad_norm_` would."""
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for name, p in parameters.items():
        if p.grad is not None and "." in name:  # parameters of the model itself belong to no part
            parts[name.split(".")[0]].append(p.grad if stacked else p.grad[None])
    for gradients in parts.values():
        squares = torch.stack([g.reshape(len(g), -1).square().sum(dim=1) for g in gradients]).sum(dim=0)  # [S]
        factor = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(_as_rows(factor, gradient))
