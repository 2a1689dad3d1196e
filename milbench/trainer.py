"""The only training loop. It knows no files, and gets no test slide before the epoch is chosen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from milbench.errors import MilbenchError
from milbench.metrics import auroc_per_task, mean_of_defined
from milbench.models import MILModel
from milbench.optimizers import LookaheadRAdam
from milbench.recipe import Recipe

EVALUATION_BAGS = 64
"""Bags of one size that are evaluated together; more gains nothing and costs memory."""

EVALUATION_PATCHES = 16_384
"""Patches that are evaluated together at most, unless one bag alone has more."""


class Bags(NamedTuple):
    """Slides as the trainer sees them: features on demand, labels as tensors.

    Attributes
    ----------
    features : sequence of Tensor [N, D]; an item may be read from disk when it is asked for.
    targets : float32 Tensor [S, T] in {0, 1}, 0 where unknown.
    known : float32 Tensor [S, T], 1 where the label is known.
    """

    features: Sequence[Tensor]
    targets: Tensor
    known: Tensor

    def labels(self) -> NDArray[np.float64]:
        """Targets [S, T] with NaN where unknown."""
        return np.where(self.known.numpy() == 1, self.targets.numpy().astype(np.float64), np.nan)


class Epoch(NamedTuple):
    """One row of the history."""

    epoch: int
    lr: float
    train_loss: float
    val_loss: float
    val_auroc: float


class Fit(NamedTuple):
    """What training leaves behind; the model itself holds the chosen epoch's weights.

    Attributes
    ----------
    chosen_epoch : from 0.
    selected_by : the rule that chose it, or why none could.
    history : one row an epoch.
    seconds : wall time of the training alone.
    step_seconds : the part of it that went into the training slides, without the validation passes.
    """

    chosen_epoch: int
    selected_by: str
    history: list[Epoch]
    seconds: float
    step_seconds: float


class Prediction(NamedTuple):
    """What a model says of S slides.

    Attributes
    ----------
    losses : float32 Tensor [S].
    probabilities : [S, T].
    seconds : [S] wall time of the model alone, features in memory; slides that went through together share it evenly.
    """

    losses: Tensor
    probabilities: NDArray[np.float64]
    seconds: NDArray[np.float64]


def fit(model: MILModel, recipe: Recipe, train: Bags, validation: Bags, *, seed: int, device: torch.device) -> Fit:
    """Train `model` in place by `recipe` and leave it with the weights of the chosen epoch.

    Raises
    ------
    MilbenchError : the loss is no longer finite.
    """
    started = perf_counter()
    torch.manual_seed(seed)
    shuffler = torch.Generator().manual_seed(seed)
    model.to(device)
    optimizer = make_optimizer(model, recipe)
    best = _Best(recipe)
    history: list[Epoch] = []
    step_seconds = 0.0
    for epoch in range(recipe.epochs):
        lr = recipe.lr * recipe.lr_factor(epoch)
        _set_lr(optimizer, lr)
        order = torch.randperm(len(train.features), generator=shuffler).tolist()
        begun = perf_counter()
        train_loss = _train_epoch(model, recipe, optimizer, train, order, device)
        step_seconds += perf_counter() - begun
        if not np.isfinite(train_loss):
            raise MilbenchError(
                f"the training loss became {train_loss} in epoch {epoch + 1}. "
                "Lower trainer.lr, or scale the features (feature_scaling: standard)."
            )
        val_loss, probabilities = evaluate(model, validation, device)
        val_auroc = mean_of_defined(auroc_per_task(validation.labels(), probabilities))
        history.append(Epoch(epoch, lr, train_loss, val_loss, val_auroc))
        best.consider(history[-1], model)
        if recipe.patience is not None and epoch - best.since > recipe.patience:
            break
    best.restore(model)
    return Fit(best.epoch, best.rule, history, perf_counter() - started, step_seconds)


class _Best:
    """The strictly best epoch so far, with a copy of its weights.

    As in the official code the best AUROC starts at 0, so the first epoch wins ties and an undefined
    one never wins. If none wins (a validation side with one class), the last epoch stays.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.score = 0.0 if recipe.select_by == "val_auroc" else -np.inf
        self.epoch, self.since = 0, 0
        self.weights: dict[str, Tensor] = {}

    def consider(self, row: Epoch, model: MILModel) -> None:
        if not self.weights:
            self.epoch = row.epoch
        if not self.recipe.can_select(row.epoch):
            self.since = row.epoch
            return
        score = row.val_auroc if self.recipe.select_by == "val_auroc" else -row.val_loss
        if score > self.score:
            self.score, self.epoch, self.since = score, row.epoch, row.epoch
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @property
    def rule(self) -> str:
        return self.recipe.select_by if self.weights else f"last epoch ({self.recipe.select_by} undefined)"

    def restore(self, model: MILModel) -> None:
        if self.weights:
            model.load_state_dict(self.weights)


def evaluate(model: MILModel, bags: Bags, device: torch.device) -> tuple[float, NDArray[np.float64]]:
    """Mean loss over the slides, and probabilities [S, T]."""
    prediction = predict(model, bags, device=device)
    return float(prediction.losses.double().mean()), prediction.probabilities


def predict(model: MILModel, bags: Bags, *, device: torch.device) -> Prediction:
    """What `model` says of `bags`, in eval mode."""
    model.eval()
    probabilities = torch.empty(len(bags.features), model.n_tasks)
    losses, seconds = torch.empty(len(bags.features)), np.empty(len(bags.features))
    with torch.no_grad():
        for positions, features in _groups_in_order(bags.features):
            begun = perf_counter()  # the bags have been read by now, and `.cpu()` waits for the GPU
            targets, known = bags.targets[positions].to(device), bags.known[positions].to(device)
            loss, logits = _losses_and_logits(model, features, targets, known, device)
            probabilities[positions] = torch.sigmoid(logits.float()).cpu()
            losses[positions] = loss.float().cpu()
            seconds[positions] = (perf_counter() - begun) / len(positions)
    return Prediction(losses, probabilities.double().numpy(), seconds)


def _train_epoch(
    model: MILModel, recipe: Recipe, optimizer: Optimizer, train: Bags, order: list[int], device: torch.device
) -> float:
    """Mean training loss over the slides while the weights move."""
    model.train()
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, len(order), recipe.bags_per_step):
        step = order[start : start + recipe.bags_per_step]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([part.sum() for part in _step_losses(model, train, step, device)]).sum()
        (loss / len(step)).backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm is not None:
            for part in model.children():
                clip_grad_norm_(part.parameters(), recipe.clip_norm)
        optimizer.step()
        total += loss.detach().double().cpu()
    return float(total) / len(order)


def _step_losses(model: MILModel, train: Bags, step: list[int], device: torch.device) -> Iterator[Tensor]:
    """Losses of one optimiser step's bags; bags of one size go through the model together."""
    by_size: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for index in step:
        features = train.features[index]
        by_size[features.shape[0]].append((index, features))
    for group in by_size.values():
        positions = [index for index, _ in group]
        targets, known = train.targets[positions].to(device), train.known[positions].to(device)
        yield _losses_and_logits(model, [features for _, features in group], targets, known, device)[0]


def _groups_in_order(features: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Runs of neighbouring bags of one size: every bag is read once, in order."""
    positions: list[int] = []
    group: list[Tensor] = []
    for index in range(len(features)):
        bag = features[index]
        full = len(group) == EVALUATION_BAGS or (len(group) + 1) * len(bag) > EVALUATION_PATCHES
        if group and (full or len(bag) != len(group[0])):
            yield positions, group
            positions, group = [], []
        positions.append(index)
        group.append(bag)
    if group:
        yield positions, group


def _losses_and_logits(
    model: MILModel, features: list[Tensor], targets: Tensor, known: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Loss [B] and logits [B, T] of B bags of one size."""

    def one(bag: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output = model(bag)
        return model.loss(output, target, mask), output.logits

    if len(features) == 1:  # a big bag alone: vmap would only add its overhead
        loss, logits = one(features[0].to(device, torch.float32), targets[0], known[0])
        return loss[None], logits[None]
    stacked = torch.stack(features).to(device, torch.float32)
    return vmap(one, randomness="different")(stacked, targets, known)  # type: ignore[no-any-return]


def make_optimizer(model: MILModel, recipe: Recipe) -> Optimizer:
    """The recipe's optimiser over all parameters of `model`."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if recipe.decay_vectors or p.ndim >= 2]
    vectors = [p for p in parameters if not recipe.decay_vectors and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "lookahead_radam":
        return LookaheadRAdam(groups, lr=recipe.lr, betas=recipe.betas)
    # `fused` does the same arithmetic in one pass over all tensors: it matters for models of many small ones
    return torch.optim.Adam(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def _set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
