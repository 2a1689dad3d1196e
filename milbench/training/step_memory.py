"""Step memory: how many trials go through the model together, so that a step fits into memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from milbench.training.step_cost import StepCost, members_at_once


class StepMemory:
    """The limit on the trials that take a step together: planned from a budget, lowered after memory ran out.

    Parameters
    ----------
    n_trials : trials that take their steps together. The learner lowers it when trials leave.
    cost : memory of a step by patches, alone and in a stack. If it is None, memory is limited only after it ran out.
    budget_bytes : memory for the activations of all trials; 0 = no limit.

    Attributes
    ----------
    at_once : the most trials that go through together, whatever the size of the bag.
    must_recompute : whether even one trial alone must recompute, whatever the size of the bag.
    shortage : how steps were made smaller the first time, in words; "" if they never were.
    let_go : frees what only saves time; says whether there was anything. Steps get smaller when there is no more.
    """

    def __init__(
        self, n_trials: int, device: torch.device, *, cost: StepCost | None = None, budget_bytes: int = 0
    ) -> None:
        self.n_trials, self.device = n_trials, device
        self.cost, self.budget_bytes = cost, budget_bytes
        self.at_once, self.must_recompute, self.shortage = n_trials, False, ""
        self.let_go: Callable[[], bool] = lambda: False

    def affordable(self, n_patches: int) -> tuple[int, bool]:
        """Trials that may go through together with `n_patches` patches, and whether to recompute activations."""
        n, recompute = self.n_trials, self.must_recompute
        if self.cost is not None:
            n, is_short = members_at_once(self.cost, n_patches, n, self.budget_bytes)
            if is_short or n < self.n_trials:
                self._note(n, f"for the memory budget from {n_patches} patches on", recompute=is_short)
            recompute = recompute or is_short
        return max(1, min(n, self.at_once)), recompute

    def bytes_of(self, n_patches: int, n_trials: int) -> int:
        """Memory that a step of so many trials takes with `n_patches` patches, about; 0 if nothing is known of it."""
        return 0 if self.cost is None else self.cost.of(n_patches, n_trials)

    def shrink(self, n_patches: int) -> None:
        """Halve the trials that go through together after memory ran out. If only one is left, it recomputes."""
        if self.let_go():
            return
        together = min(self.at_once, self.n_trials)
        self.at_once, self.must_recompute = max(1, together // 2), together == 1
        self._note(self.at_once, f"after memory ran out at {n_patches} patches", recompute=self.must_recompute)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _note(self, at_once: int, why: str, *, recompute: bool) -> None:
        how = "recomputed in the backward" if recompute else f"{at_once} trials at once"
        self.shortage = self.shortage or f"{how}, {why}"
