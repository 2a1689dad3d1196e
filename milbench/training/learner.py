"""Learner: S >= 1 trials of one architecture, recipe, fold and seed that take their steps together.

It is handed bags one by one and knows no files; validation bags choose each trial's epoch, and no test bag
reaches it before that is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from milbench.errors import MilbenchError
from milbench.metrics import auroc_per_task, mean_of_defined
from milbench.models import MILModel
from milbench.training.activations import ActivationCost, is_out_of_memory, members_at_once
from milbench.training.bag_guard import Untouched
from milbench.training.optimizers import clip_each_part, make_optimizer
from milbench.training.randomness import Randomness
from milbench.training.selection import Epoch, Member
from milbench.training.weights import OneModel, Stack, weights_of
from milbench.trials.recipe import Recipe

BAGS_AT_ONCE = 64
"""Bags of one size that go through a model together; more gains nothing and costs memory."""

NUMBERS_AT_ONCE = 2**20
"""Numbers, patches times width, of bags that are looked at together, unless one bag alone has more. Beyond, laying them side
by side costs more than it saves (`benchmarks/together.py`)."""

PATCHES_OF_A_GROUP = 2000
"""Patches that go through a model together in a training step. So few never exceed a step's memory: bags that are divided for
want of it draw other dropout masks, and results would depend on how much memory there was."""

Placed = tuple[int, Tensor]
"""A slide's position in its side, and its features [N, D] on the device."""


class Side(NamedTuple):
    """One side of a fold as S trials see it.

    Attributes
    ----------
    slide_ids : n of them, each once.
    targets : float32 Tensor [S, n, T] in {0, 1}, 0 where unknown.
    known : float32 Tensor [S, n, T], 1 where the label is known.
    """

    slide_ids: tuple[str, ...]
    targets: Tensor
    known: Tensor

    def labels(self, member: int = 0) -> NDArray[np.float64]:
        """Targets [n, T] of one trial with NaN where unknown."""
        known = self.known[member].cpu().numpy() == 1
        return np.where(known, self.targets[member].cpu().numpy().astype(np.float64), np.nan)

    def to(self, device: torch.device) -> Side:
        """The same with labels on `device`."""
        return self._replace(targets=self.targets.to(device), known=self.known.to(device))

    def of(self, members: Sequence[int]) -> Side:
        """The same for some of the trials."""
        return self._replace(targets=self.targets[list(members)], known=self.known[list(members)])


class Predictions(NamedTuple):
    """What S trials say of n slides.

    Attributes
    ----------
    losses : float32 Tensor [S, n].
    probabilities : [S, n, T].
    seconds : [n] wall time of the models alone, of one trial; slides and trials that went through together share it.
    """

    losses: Tensor
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]


class Learner:
    """S trials on their way through the epochs.

    Parameters
    ----------
    models : S of one architecture, as they start; a single one is trained in place.
    train, validation : what they learn from and what chooses their epochs.
    seed : of dropout and whatever else a model draws.
    precision : "float32", "tf32" or "bf16" for the matrix products.
    cost, budget_bytes : memory of a step by patches, and how much of it may be used; 0 = no limit.

    Attributes
    ----------
    members : the S trials, in the order of `models`.
    alive : those that still learn; each is a place in `weights`.
    best : [S, ...] by parameter, the weights of each trial's kept epoch.
    epoch : the next one.
    seconds, step_seconds : wall time of all its work, and of its optimiser steps alone.
    shortage : how steps had to shrink for want of memory, in words; "" if they had not.
    """

    def __init__(
        self,
        models: Sequence[MILModel],
        recipe: Recipe,
        train: Side,
        validation: Side,
        *,
        seed: int,
        device: torch.device,
        precision: str = "float32",
        cost: ActivationCost | None = None,
        budget_bytes: int = 0,
    ) -> None:
        self.models, self.recipe, self.device = list(models), recipe, device
        self.weights: OneModel | Stack = weights_of(models, precision, device)
        self.random = Randomness(seed, device)
        self.optimizer = self._new_optimizer()
        self.train, self.validation = train.to(device), validation.to(device)
        self.place_in_train = {slide: i for i, slide in enumerate(train.slide_ids)}
        self.members = [Member() for _ in models]
        self.alive = list(range(len(models)))
        self.best = {name: torch.zeros_like(p) for name, p in self.weights.stacked().items()}
        self.untouched = Untouched(type(models[0]).__name__)
        self.cost, self.budget_bytes = cost, budget_bytes
        self.at_once, self.must_recompute, self.shortage = len(models), False, ""
        self.epoch, self.seconds, self.step_seconds = 0, 0.0, 0.0

    @property
    def is_stack(self) -> bool:
        """Whether parameters are [S, ...]."""
        return isinstance(self.weights, Stack)

    @property
    def is_done(self) -> bool:
        """Whether no trial has anything left to learn."""
        return not self.alive or self.epoch >= self.recipe.epochs

    # ---- one epoch -------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Get ready for training bags."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * self.recipe.lr_factor(self.epoch)
        self.weights.model.train()
        self.buffers = [(name, buffer, buffer._version) for name, buffer in self.weights.model.named_buffers()]
        self.waiting: list[Placed] = []
        self.total = torch.zeros(len(self.alive), dtype=torch.float64, device=self.device)

    def take(self, slide_id: str, features: Tensor) -> None:
        """Learn from a training bag [N, D]; the step is taken when as many bags have come as it needs."""
        self.waiting.append((self.place_in_train[slide_id], features))
        if len(self.waiting) == self.recipe.bags_per_step:
            self._step()

    def begin_validation(self) -> None:
        """Take the epoch's last step, and get ready for validation bags."""
        if self.waiting:
            self._step()
        self.look = Look(self.weights, self.validation, self.at_once_to_look, self.untouched)

    def look_at(self, slide_id: str, features: Tensor) -> None:
        """Look at a bag [N, D] of the side that was begun with."""
        self.look.at(slide_id, features)

    def begin_prediction(self, side: Side) -> None:
        """Get ready to look at any side with the weights of the kept epochs, for good: training is over."""
        self.look = Look(self.chosen(), side.to(self.device), self.at_once_to_look, self.untouched)

    def end_epoch(self) -> None:
        """Book the epoch for every trial; those that failed or ran out of patience leave."""
        seen = self.look.ended()
        lr = self.recipe.lr * self.recipe.lr_factor(self.epoch)
        train_losses = (self.total / len(self.train.slide_ids)).tolist()
        stacked = self.weights.stacked()
        for place, number in enumerate(self.alive):
            member = self.members[number]
            if not np.isfinite(train_losses[place]):
                member.failure = _diverged(train_losses[place], self.epoch)
                continue
            score = mean_of_defined(auroc_per_task(self.validation.labels(place), seen.probabilities[place]))
            val_loss = float(seen.losses[place].double().mean())
            if member.consider(Epoch(self.epoch, lr, train_losses[place], val_loss, score), self.recipe):
                self._keep(place, number, stacked)
        self.epoch += 1
        self._let_go(stacked)

    def _keep(self, place: int, number: int, stacked: dict[str, Tensor]) -> None:
        for name, values in stacked.items():
            self.best[name][number].copy_(values[place])

    def _let_go(self, stacked: dict[str, Tensor]) -> None:
        """Trials that are done leave the stack, with the last epoch's weights where none was chosen."""
        last = self.epoch >= self.recipe.epochs
        staying = []
        for place, number in enumerate(self.alive):
            member = self.members[number]
            if not last and not member.failure and not member.is_out_of_patience(self.recipe):
                staying.append(place)
            elif member.score is None and not member.failure:
                self._keep(place, number, stacked)
        if len(staying) < len(self.alive):
            self.shrink_to(staying)

    def shrink_to(self, places: list[int]) -> None:
        """Leave only the members at these places in the stack."""
        self.alive = [self.alive[place] for place in places]
        if isinstance(self.weights, OneModel) or not places:
            return
        before, optimizer = self.weights.named_parameters(), self.optimizer
        self.weights = self.weights.kept(places)
        self.optimizer = self._new_optimizer()
        for name, parameter in self.weights.named_parameters().items():
            state = optimizer.state[before[name]]
            self.optimizer.state[parameter] = {key: _of_members(value, places) for key, value in state.items()}
        self.train, self.validation = self.train.of(places), self.validation.of(places)

    def at_once_to_look(self, n_patches: int) -> int:
        """Members that may look at so many patches together: a step's memory bounds that of a look."""
        return self._affordable(n_patches)[0]

    def _new_optimizer(self) -> Optimizer:
        return make_optimizer(self.weights.named_parameters(), self.recipe, stacked=self.is_stack)

    # ---- one step --------------------------------------------------------------------------------

    def _step(self) -> None:
        begun = perf_counter()
        bags, self.waiting = self.waiting, []
        self.total += self._gradients(bags)
        if self.recipe.clip_norm is not None:
            clip_each_part(self.weights.named_parameters(), self.recipe.clip_norm, stacked=self.is_stack)
        self.optimizer.step()
        self._refuse_state()
        self.step_seconds += perf_counter() - begun

    def _refuse_state(self) -> None:
        """Raise where a step changed a buffer: neither checkpoints nor the weights of the kept epoch would hold it."""
        for name, buffer, version in self.buffers:
            if buffer._version != version:
                raise MilbenchError(
                    f"{type(self.weights.model).__name__} changes its buffer '{name}' as it trains, and a model keeps no "
                    "state between bags. Use LayerNorm, or a BatchNorm with track_running_stats=False."
                )

    def _gradients(self, bags: Sequence[Placed]) -> Tensor:
        """Losses [S] of a step, whose gradients are in place; where memory runs out it is tried again, smaller."""
        start = self.random.states
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                with self.random.taken_up():
                    return torch.stack([self._backward(group, len(bags)) for group in _by_size(bags)]).sum(dim=0)
            except Exception as error:
                if not is_out_of_memory(error) or self.must_recompute:
                    raise
            self._shrink_steps(max(len(features) for _, features in bags))
            self.random.states = start

    def _backward(self, group: Sequence[Placed], divisor: int) -> Tensor:
        """Losses [S] of bags of one size, summed, their gradients added."""
        places = [place for place, _ in group]
        bags = [features for _, features in group]
        at_once, recompute = self._affordable(sum(map(len, bags)))
        # the last resort: recomputation knows no vmap, and bags alone draw other masks
        if recompute and len(group) > 1:
            return torch.stack([self._backward([placed], divisor) for placed in group]).sum(dim=0)
        with self.untouched.lent(bags):
            return self.weights.backward(
                bags, self.train.targets[:, places], self.train.known[:, places], divisor,
                at_once=at_once, recompute=recompute,
            ).double()  # fmt: skip

    def _affordable(self, n_patches: int) -> tuple[int, bool]:
        """Members that may go through together with a bag of this size, and whether to recompute."""
        n, recompute = self.weights.n, self.must_recompute
        if self.cost is not None:
            n, short = members_at_once(self.cost, n_patches, n, self.budget_bytes)
            if short or n < self.weights.n:
                self._note(n, f"for the memory budget from {n_patches} patches on", recompute=short)
            recompute = recompute or short
        return max(1, min(n, self.at_once)), recompute

    def _shrink_steps(self, n_patches: int) -> None:
        """After memory ran out: half of the trials together, and when that is one, recomputation."""
        together = min(self.at_once, self.weights.n)
        self.at_once, self.must_recompute = max(1, together // 2), together == 1
        self._note(self.at_once, f"after memory ran out at {n_patches} patches", recompute=self.must_recompute)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _note(self, at_once: int, why: str, *, recompute: bool) -> None:
        how = "recomputed in the backward" if recompute else f"{at_once} trials at once"
        self.shortage = self.shortage or f"{how}, {why}"

    # ---- what is learnt --------------------------------------------------------------------------

    def chosen(self) -> OneModel | Stack:
        """All S trials with the weights of their kept epochs; those of a failed one mean nothing."""
        if isinstance(self.weights, OneModel):
            self.weights.model.load_state_dict({name: values[0] for name, values in self.best.items()}, strict=False)
            return self.weights
        return self.weights.with_values(self.best)

    def model_of(self, number: int) -> MILModel:
        """One trial's model, in eval mode, with the weights of its kept epoch."""
        own = {name: values[number] for name, values in self.best.items()}
        self.models[number].load_state_dict(own, strict=False)
        return self.models[number].eval()


class Look:
    """Losses and probabilities of a side, gathered while its bags come by in any order."""

    def __init__(
        self, weights: OneModel | Stack, side: Side, at_once: Callable[[int], int], untouched: Untouched
    ) -> None:
        self.weights, self.side, self.at_once, self.untouched = weights, side, at_once, untouched
        self.place = {slide: i for i, slide in enumerate(side.slide_ids)}
        n_members, n_slides, n_tasks = side.targets.shape
        self.losses = side.targets.new_empty(n_members, n_slides)
        self.logits = side.targets.new_empty(n_members, n_slides, n_tasks)
        self.seconds = np.zeros(n_slides)
        self.group: list[Placed] = []
        weights.model.eval()

    def at(self, slide_id: str, features: Tensor) -> None:
        """Look at a bag [N, D]; neighbours of one size go through together."""
        full = len(self.group) == BAGS_AT_ONCE or (len(self.group) + 1) * features.numel() > NUMBERS_AT_ONCE
        if self.group and (full or len(features) != len(self.group[0][1])):
            self._look()
        self.group.append((self.place[slide_id], features))

    def ended(self) -> Predictions:
        """What was seen; the look is over."""
        if self.group:
            self._look()
        # it leads back to a learner that holds this look: neither would go before garbage is collected
        del self.at_once
        probabilities = torch.sigmoid(self.logits).cpu().double().numpy()
        return Predictions(self.losses.cpu(), probabilities, self.seconds)

    def _look(self) -> None:
        begun = perf_counter()
        places, bags = [place for place, _ in self.group], [features for _, features in self.group]
        self.group = []
        with torch.no_grad(), self.untouched.lent(bags):
            losses, logits = self.weights.losses_and_logits(
                bags,
                self.side.targets[:, places],
                self.side.known[:, places],
                at_once=self.at_once(sum(map(len, bags))),
            )
        self.losses[:, places], self.logits[:, places] = losses.to(self.losses), logits.to(self.logits)
        if losses.device.type == "cuda":
            torch.cuda.synchronize(losses.device)
        self.seconds[places] = (perf_counter() - begun) / len(places) / len(self.losses)


# ---- small steps ---------------------------------------------------------------------------------


def _of_members(value: Tensor, places: list[int]) -> Tensor:
    """An optimiser's state of some members; its step count belongs to all."""
    return value[places] if value.ndim else value


def _by_size(bags: Iterable[Placed]) -> list[list[Placed]]:
    """Bags of one size together, as many as may go through a model at once."""
    groups: list[list[Placed]] = []
    open_group: dict[int, list[Placed]] = {}
    for placed in bags:
        size = len(placed[1])
        group = open_group.get(size)
        if group is None or len(group) == BAGS_AT_ONCE or (len(group) + 1) * size > PATCHES_OF_A_GROUP:
            group = open_group[size] = []
            groups.append(group)
        group.append(placed)
    return groups


def _diverged(loss: float, epoch: int) -> str:
    return (
        f"the training loss became {loss} in epoch {epoch + 1}. "
        "Lower trainer.lr, or scale the features (feature_scaling: standard)."
    )
