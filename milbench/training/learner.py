"""Learner: S >= 1 trials of one architecture, recipe, fold and seed that take their steps together.

Learning rate and weight decay may be each trial's own. The trainer hands the learner bags one by one; a learner knows no
files. Validation bags choose each trial's epoch. No test bag reaches a learner before all epochs are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.fitted import FittedEndpoint
from milbench.layout import Patches
from milbench.models import MILModel
from milbench.training.activations import is_out_of_memory
from milbench.training.bag_groups import IndexedBag, training_groups
from milbench.training.bag_guard import BagGuard
from milbench.training.cox_tasks import CoxBatch, CoxTasks
from milbench.training.draws import PatchDraw, balanced_chances, visits_with_replacement
from milbench.training.epoch_in_progress import EpochInProgress
from milbench.training.evaluation import Evaluation, Predictions
from milbench.training.optimizers import clip_each_part, make_optimizer
from milbench.training.randomness import Randomness
from milbench.training.refusals import refuse_changed_buffers, refuse_unsmoothed_labels
from milbench.training.selection import Epoch, TrialProgress, diverged
from milbench.training.side import Side
from milbench.training.step_cost import StepCost
from milbench.training.step_labels import StepLabels
from milbench.training.step_memory import StepMemory
from milbench.training.task_weights import TaskWeights
from milbench.training.validation_score import validation_score
from milbench.training.weights import OneModel, ParameterStack, weights_of
from milbench.trials.recipe import Recipe


class Learner:
    """S trials on their way through the epochs.

    A trial keeps its number, from 0 to S-1, for good. Its row in `weights` moves up when trials before it leave.

    Parameters
    ----------
    models : S of one architecture, as they start; a single one is trained in place.
    train, validation : the side that the trials learn from, and the side that chooses their epochs.
    seed : of dropout and whatever else a model draws.
    precision : "float32", "tf32" or "bf16" for the matrix products.
    cost, budget_bytes : memory of a step by patches, and how much of it may be used; 0 = no limit.
    scaler : fitted on the training slides; it is applied to every bag before the learner sees it.
    endpoints : of the tasks of each trial; None = those that the models were built for.
    recipes : of each trial, if they differ from `recipe` in learning rate or weight decay, and in nothing else.

    Attributes
    ----------
    has_own_rates : whether trials differ in learning rate or weight decay; those that have left count too.
    progress : of each of the S trials.
    still_learning : the trial's number for each row of `weights`.
    best : [S, ...] by parameter, the weights of each trial's kept epoch.
    epoch : the next one.
    seconds, step_seconds : wall time of all its work, and of its optimiser steps alone.
    error : what its model raised; a learner with an error does no more work.
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
        cost: StepCost | None = None,
        budget_bytes: int = 0,
        scaler: FeatureScaler | None = None,
        endpoints: Sequence[Sequence[FittedEndpoint]] | None = None,
        recipes: Sequence[Recipe] | None = None,
    ) -> None:
        self.models, self.recipe, self.device = list(models), recipe, device
        self._recipes = list(recipes or [recipe] * len(models))
        if any(replace(own, lr=recipe.lr, weight_decay=recipe.weight_decay) != recipe for own in self._recipes):
            raise ValueError("trials of one learner may differ in learning rate and weight decay only")
        self.has_own_rates = any(own != recipe for own in self._recipes)
        for model in models:
            model.training_smoothing = recipe.label_smoothing
        self.weights: OneModel | ParameterStack = weights_of(models, precision, device)
        self.random = Randomness(seed, device)
        self.cox = CoxTasks.of(models[0].outputs)
        self.task_weights = TaskWeights(recipe.task_weights, len(models), models[0].n_tasks, device)
        self.still_learning = list(range(len(models)))
        self.optimizer = self._new_optimizer()
        self.train, self.validation = train.to(device), validation.to(device)
        self.train_index, self.validation_index = train.index_by_slide(), validation.index_by_slide()
        self.scaler = scaler or FeatureScaler("none")
        self._endpoints = list(endpoints) if endpoints else [model.outputs.endpoints for model in models]
        self._chances = balanced_chances(train, self._endpoints[0]) if recipe.sampler == "balanced" else None
        if self._chances is not None and len(models) > 1:
            raise ValueError("labels decide the draws of a balanced sampler, so each trial is a learner of its own")
        self.progress = [TrialProgress() for _ in models]
        self.best = {name: torch.zeros_like(values) for name, values in self.weights.values_per_trial().items()}
        self.bag_guard = BagGuard(type(models[0]).__name__)
        self.step_memory = StepMemory(len(models), device, cost=cost, budget_bytes=budget_bytes)
        self.in_progress: EpochInProgress  # from `begin_epoch` to `end_epoch`
        self.epoch, self.seconds, self.step_seconds = 0, 0.0, 0.0
        self.error: BaseException | None = None

    @property
    def is_stack(self) -> bool:
        """Whether parameters are [S, ...]."""
        return isinstance(self.weights, ParameterStack)

    @property
    def _recipes_by_row(self) -> list[Recipe]:
        return [self._recipes[trial] for trial in self.still_learning]

    @property
    def is_done(self) -> bool:
        """Whether no trial has anything left to learn."""
        return not self.still_learning or self.epoch >= self.recipe.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return ceil(len(self.train.slide_ids) / self.recipe.bags_per_step)

    # ---- one epoch -------------------------------------------------------------------------------

    @property
    def visits(self) -> dict[str, int]:
        """How often the next epoch visits each training slide; a slide that it leaves out is absent."""
        slides = self.train.slide_ids
        if self._chances is None:
            return dict.fromkeys(slides, 1)
        return visits_with_replacement(slides, self._chances, seed=self.random.seed, epoch=self.epoch)

    @property
    def patch_draw(self) -> PatchDraw | None:
        """Which patches of each bag the next epoch sees; None = all."""
        most = self.recipe.bag_patches
        return None if most is None else PatchDraw(self.random.seed, self.epoch, most)

    def begin_epoch(self) -> None:
        """Get ready for training bags."""
        model = self.weights.model.train()
        self.task_weights.begin_epoch([self.progress[trial].task_losses for trial in self.still_learning])
        n_trials = len(self.still_learning)
        self.in_progress = EpochInProgress(
            buffers=[(name, buffer, buffer._version) for name, buffer in model.named_buffers()],
            train_losses=torch.zeros(n_trials, dtype=torch.float64, device=self.device),
            task_losses=torch.zeros(n_trials, model.n_tasks, dtype=torch.float64, device=self.device),
            without_event=torch.zeros(n_trials, len(self.cox.tasks), dtype=torch.int64, device=self.device),
            evaluation=self._evaluation(self.weights, self.validation),
            waiting=[],
        )

    def add(self, slide_id: str, patches: Patches) -> bool:
        """Have a training bag wait for the next step. Whether enough bags wait, so that `take_step` is due."""
        waiting = self.in_progress.waiting
        waiting.append(IndexedBag(self.train_index[slide_id], len(waiting), patches))
        return len(waiting) == self.recipe.bags_per_step

    def begin_validation(self) -> None:
        """Take the epoch's last step, and get ready for validation bags."""
        if self.in_progress.waiting:
            self.take_step()
        self.weights.model.eval()

    def end_epoch(self) -> None:
        """Book the epoch for every trial. Trials that failed or ran out of patience leave."""
        predictions = self.in_progress.evaluation.finish()
        train_losses = (self.in_progress.train_losses / len(self.train.slide_ids)).tolist()
        values = self.weights.values_per_trial()
        self._book_tasks()
        for row, trial in enumerate(self.still_learning):
            if not np.isfinite(train_losses[row]):
                self.progress[trial].failure = diverged(train_losses[row], self.epoch)
            elif self.progress[trial].consider(self._booked(row, train_losses[row], predictions), self.recipe):
                self._keep(row, trial, values)
        self.epoch += 1
        del self.in_progress  # it holds the weights of trials that may leave now
        self._release(values)

    def _booked(self, row: int, train_loss: float, predictions: Predictions) -> Epoch:
        """The epoch of one trial, for its history."""
        score = validation_score(self._endpoints[self.still_learning[row]], self.validation, row, predictions)
        lr = self.optimizer.param_groups[0]["lr"]  # of the last step
        lr = lr[row] if self.has_own_rates else lr
        return Epoch(self.epoch, lr, train_loss, float(predictions.losses[row].double().mean()), score)

    def _book_tasks(self) -> None:
        """Note what moved the weights of tasks in the epoch, and the steps that taught a Cox task nothing."""
        losses = (self.in_progress.task_losses / len(self.train.slide_ids)).tolist()
        factors, without_event = self.task_weights.factors.tolist(), self.in_progress.without_event.tolist()
        for row, trial in enumerate(self.still_learning):
            progress = self.progress[trial]
            if self.task_weights.moves:
                progress.task_losses.append(losses[row])
                progress.task_weights.append(factors[row])
            before = progress.cox_steps_without_event or [0] * len(self.cox.tasks)
            progress.cox_steps_without_event = [a + b for a, b in zip(before, without_event[row], strict=True)]

    def _keep(self, row: int, trial: int, values: dict[str, Tensor]) -> None:
        for name, stacked in values.items():
            self.best[name][trial].copy_(stacked[row])

    def _release(self, values: dict[str, Tensor]) -> None:
        """Let the trials that are done leave, with the last epoch's weights if none was chosen."""
        is_last = self.epoch >= self.recipe.epochs
        staying = []
        for row, trial in enumerate(self.still_learning):
            progress = self.progress[trial]
            if not is_last and not progress.failure and not progress.is_out_of_patience(self.recipe):
                staying.append(row)
            elif progress.score is None and not progress.failure:
                self._keep(row, trial, values)
        if len(staying) < len(self.still_learning):
            self.shrink_to(staying)

    def shrink_to(self, rows: list[int]) -> None:
        """Leave only the trials in these rows of `weights`."""
        self.still_learning = [self.still_learning[row] for row in rows]
        if isinstance(self.weights, OneModel) or not rows:
            return
        before, optimizer = self.moved_parameters(), self.optimizer
        self.weights = self.weights.of_rows(rows)
        self.task_weights.shrink_to(rows)
        self.optimizer = self._new_optimizer()
        for name, parameter in self.moved_parameters().items():
            state = optimizer.state[before[name]]
            self.optimizer.state[parameter] = {key: _of_rows(value, rows) for key, value in state.items()}
        self.train, self.validation = self.train.of(rows), self.validation.of(rows)
        self.step_memory.n_trials = len(rows)

    def _set_lr(self) -> None:
        """Give the optimiser the rates of the next step."""
        n_before = self.epoch * self.steps_per_epoch + self.in_progress.n_steps
        of_epoch = self.recipe.lr_factor(self.epoch)
        warmup = self.recipe.warmup_factor(n_before, self.steps_per_epoch)
        rates = [recipe.lr * of_epoch * warmup for recipe in self._recipes_by_row]
        for group in self.optimizer.param_groups:
            group["lr"] = rates if self.has_own_rates else rates[0]

    def moved_parameters(self) -> dict[str, Tensor]:
        """Leaf tensors that the optimiser moves: those of the models, and weights of tasks if they are learned."""
        return {**self.weights.named_parameters(), **self.task_weights.named_parameters()}

    def _new_optimizer(self) -> Optimizer:
        return make_optimizer(
            self.weights.named_parameters(), self.recipe,
            stacked=self.is_stack, undecayed=self.task_weights.named_parameters().values(),
            by_row=self._recipes_by_row if self.has_own_rates else (),
        )  # fmt: skip

    def _evaluation(self, weights: OneModel | ParameterStack, side: Side) -> Evaluation:
        # from the seed each time: what a model draws in evaluation must not depend on what was evaluated before
        return Evaluation(weights, side, self.step_memory, self.bag_guard, Randomness(self.random.seed, self.device))

    # ---- one step --------------------------------------------------------------------------------

    def take_step(self) -> None:
        """Move the weights by one optimiser step on the waiting bags."""
        begun = perf_counter()
        bags, self.in_progress.waiting = self.in_progress.waiting, []
        self._set_lr()
        self._move(self._forward_backward(bags))
        self.step_seconds += perf_counter() - begun

    def begin_step(self, bags: Sequence[IndexedBag]) -> StepLabels:
        """What the losses of a step see whose gradients are computed elsewhere. No gradients are left when this returns."""
        self._set_lr()
        self.optimizer.zero_grad(set_to_none=True)
        return self._labels_of(bags)

    def finish_step(self, losses: Tensor, labels: StepLabels, n_bags: int) -> None:
        """Move the weights by gradients that are in place, after losses float64 [S] summed over the step's bags."""
        self._move(self._total(losses, labels, n_bags))

    def _move(self, losses: Tensor) -> None:
        if self.recipe.clip_norm is not None:
            clip_each_part(self.weights.named_parameters(), self.recipe.clip_norm, stacked=self.is_stack)
        self.optimizer.step()
        self.in_progress.train_losses += losses
        self.in_progress.n_steps += 1
        refuse_changed_buffers(self.weights.model, self.in_progress.buffers)
        refuse_unsmoothed_labels(self.weights.model, self.recipe.label_smoothing)

    def _forward_backward(self, bags: Sequence[IndexedBag]) -> Tensor:
        """Losses [S] of a step, whose gradients are in place. If memory runs out, the step is tried again, smaller."""
        start = self.random.mark()
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self._losses_of_step(bags)
            except Exception as error:
                if not is_out_of_memory(error) or self.step_memory.must_recompute:
                    raise
            self.step_memory.shrink(max(bag.n_patches for bag in bags))
            self.random.go_back(start)

    def _losses_of_step(self, bags: Sequence[IndexedBag]) -> Tensor:
        """Losses [S] of one try at a step, whose gradients are in place."""
        labels = self._labels_of(bags)
        with self.random.in_use():
            losses = [self._forward_backward_group(group, labels, len(bags)) for group in training_groups(bags)]
        return self._total(torch.stack(losses).sum(dim=0), labels, len(bags))

    def _labels_of(self, bags: Sequence[IndexedBag]) -> StepLabels:
        return StepLabels(
            self.train,
            [bag.index for bag in bags],
            cox=self._cox_batch(bags) if self.cox else None,
            factors=self.task_weights.factors if self.task_weights.moves else None,
        )

    def _total(self, total: Tensor, labels: StepLabels, n_bags: int) -> Tensor:
        """Losses [S] of a step, with what belongs to all of its bags together put in."""
        if labels.cox is not None:
            total += labels.cox_correction()
            self.in_progress.without_event += labels.cox.without_event
        if self.task_weights.moves:
            task_losses = labels.task_losses(n_bags)
            total += self.task_weights.pull(task_losses, labels.n_known, n_bags)
            self.in_progress.task_losses += task_losses / self.task_weights.factors
        return total

    def _cox_batch(self, bags: Sequence[IndexedBag]) -> CoxBatch:
        """Targets and losses of a step's Cox tasks, from logits of a pass of its own that draws the step's random numbers."""
        start, slides = self.random.mark(), [bag.index for bag in bags]
        logits = self.train.targets.new_empty(len(self.still_learning), len(bags), int(self.weights.model.outputs))
        with self.random.in_use(), torch.no_grad():
            for group in training_groups(bags):
                logits[:, [bag.place for bag in group]] = self._logits_of_group(group).to(logits)
        self.random.go_back(start)
        return self.cox.of_batch(logits, self.train.targets[:, slides], self.train.known[:, slides])

    def _logits_of_group(self, group: Sequence[IndexedBag]) -> Tensor:
        """Logits [S, B, W] of bags of one size, that go through the model as they do in `_forward_backward_group`."""
        slides, bags = [bag.index for bag in group], [bag.patches for bag in group]
        at_once, recompute = self.step_memory.affordable(sum(map(len, bags)))
        if recompute and len(group) > 1:
            return torch.cat([self._logits_of_group([bag]) for bag in group], dim=1)
        with self.bag_guard.lent(bags):
            _, logits = self.weights.losses_and_logits(
                bags, self.train.targets[:, slides], self.train.known[:, slides], at_once=1 if recompute else at_once
            )
        return logits

    def _forward_backward_group(self, group: Sequence[IndexedBag], labels: StepLabels, divisor: int) -> Tensor:
        """Losses [S] of bags of one size, summed, with their gradients added to those of other groups."""
        bags = [bag.patches for bag in group]
        at_once, recompute = self.step_memory.affordable(sum(map(len, bags)))
        # the last resort: recomputation does not work under vmap, and bags that go alone draw other masks
        if recompute and len(group) > 1:
            return torch.stack([self._forward_backward_group([bag], labels, divisor) for bag in group]).sum(dim=0)
        with self.bag_guard.lent(bags):
            targets, known = labels.of_group([bag.place for bag in group])
            losses = self.weights.forward_backward(bags, targets, known, divisor, at_once=at_once, recompute=recompute)
        return losses.double()

    # ---- after training --------------------------------------------------------------------------

    def begin_prediction(self, side: Side) -> Evaluation:
        """Evaluation of any side with the weights of the kept epochs. Training is over after this call."""
        kept = self.chosen()
        kept.model.eval()
        return self._evaluation(kept, side.to(self.device))

    def chosen(self) -> OneModel | ParameterStack:
        """Weights of all S trials in their kept epochs. Those of a failed trial mean nothing."""
        if isinstance(self.weights, OneModel):
            self.weights.model.load_state_dict({name: values[0] for name, values in self.best.items()}, strict=False)
            return self.weights
        return self.weights.with_values(self.best)

    def model_of(self, trial: int) -> MILModel:
        """The model of one trial, in eval mode, with the weights of its kept epoch."""
        own = {name: values[trial] for name, values in self.best.items()}
        self.models[trial].load_state_dict(own, strict=False)
        return self.models[trial].eval()


def _of_rows(value: Tensor, rows: list[int]) -> Tensor:
    """An optimiser's state of some rows; its step count belongs to all of them."""
    return value[rows] if value.ndim else value
