"""Trainer: the only training loop. It knows no files, and gets no test slide before the epochs are chosen.

A pass trains any number of learners over the same slides. Every bag is read and moved once per epoch for all of them.
The order is one random permutation of all slides per epoch, of which each learner takes its own slides. If a learner
visits a slide more than once, the further visits fall at random among the others. So each learner sees its slides in
uniformly random order. Other learners in the pass do not change that order.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from time import perf_counter
from types import MappingProxyType
from typing import ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from milbench.cohorts.scaling import FeatureScaler
from milbench.errors import DataError, MilbenchError
from milbench.layout import Layout, Patches
from milbench.process.must_return import DidNotReturnError
from milbench.process.shared_state import left_as_it_was, of_torch, put_back, read_shared
from milbench.training.draws import PatchDraw, Visit, in_random_order
from milbench.training.evaluation import Evaluation, Predictions
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.side import Side
from milbench.training.step_graphs import StepGraphs

P = ParamSpec("P")
R = TypeVar("R")

OF_TRAINING = of_torch()
"""What a model could change under the models that are trained beside it; reading it takes a few microseconds."""


class Features(Protocol):
    """Where bags come from."""

    def in_order(self, slide_ids: Sequence[str]) -> Iterator[tuple[str, Patches]]:
        """Slide and patches of each slide, on the device, features in the stored dtype."""
        ...


def train(
    learners: Sequence[Learner],
    slide_ids: Sequence[str],
    features: Features,
    *,
    seed: int,
    after_epoch: Callable[[], None] = lambda: None,
    stacks: Sequence[FoldStack] = (),
    graphs: StepGraphs | None = None,
) -> None:
    """Train the learners. What a model raises becomes its learner's `error`, and the other learners go on.

    Parameters
    ----------
    slide_ids : all slides of the cohort, in its order; the permutation is drawn over them.
    seed : of the permutations.
    after_epoch : called when all learners have booked an epoch; a good moment to write a checkpoint.
    stacks : of some of the learners, each in one at most. What a model raises in one becomes the error of all its members.
    graphs : new ones, by which models replay their steps; None = they take all steps as always.

    Raises
    ------
    DataError : a bag cannot be read.
    """
    shuffler = torch.Generator().manual_seed(seed)
    with left_as_it_was(), nullcontext() if graphs is None else graphs.used_by(learners, stacks):
        for epoch in range(max(learner.recipe.epochs for learner in learners)):
            # drawn also for epochs that a checkpoint holds: a resumed pass goes on with the same orders
            order = torch.randperm(len(slide_ids), generator=shuffler).tolist()
            active = [learner for learner in learners if _takes_part(learner, epoch)]
            if active:
                _train_epoch(active, [slide_ids[i] for i in order], slide_ids, features, seed=seed, stacks=stacks)
                after_epoch()


def _takes_part(learner: Learner, epoch: int) -> bool:
    """Whether the learner trains in this epoch; one that a checkpoint restored joins at its own next epoch."""
    return learner.error is None and not learner.is_done and learner.epoch == epoch


def _train_epoch(
    learners: Sequence[Learner],
    shuffled: Sequence[str],
    slide_ids: Sequence[str],
    features: Features,
    *,
    seed: int,
    stacks: Sequence[FoldStack],
) -> None:
    for learner in learners:
        call_or_record_error(learner, learner.begin_epoch)
    for stack in stacks:
        _share_error(stack)
        stack.begin_epoch(learners)
    stack_of = {learner: stack for stack in stacks for learner in stack.members}
    visits = {learner: learner.visits for learner in learners}
    most = {slide: max(own.get(slide, 0) for own in visits.values()) for slide in shuffled}
    order = in_random_order(shuffled, most, seed=seed, epoch=learners[0].epoch)
    draws = {learner: learner.patch_draw for learner in learners}
    for shown in bags_by_visit(visits, order, features, draws):
        for learner, slide, bag in shown:
            if learner in stack_of:
                stack_of[learner].add(learner, slide, bag)
            elif learner.add(slide, bag):
                call_or_record_error(learner, learner.take_step)  # forward, backward, step
        for stack in stacks:
            _call_together(stack, stack.take_steps)
    for stack in stacks:
        _call_together(stack, stack.finish_epoch)
    _validate(learners, slide_ids, features)
    for stack in stacks:
        _share_error(stack)


def _validate(learners: Sequence[Learner], slide_ids: Sequence[str], features: Features) -> None:
    """Let the learners look at their validation bags and book the epoch."""
    for learner in learners:
        call_or_record_error(learner, learner.begin_validation)
    validation_slides = {learner: dict.fromkeys(learner.validation_index, 1) for learner in learners}
    for learner, slide, bag in bags_for(validation_slides, map(Visit, slide_ids), features):
        _evaluate(learner, learner.in_progress.evaluation, slide, bag)
    for learner in learners:
        call_or_record_error(learner, learner.end_epoch)


def predict_all(
    learners: Sequence[Learner], sides: Sequence[Side], slide_ids: Sequence[str], features: Features
) -> list[Predictions | None]:
    """Predictions of every learner for its side, with the weights of the kept epochs; None where a model raised.

    Every bag is read once. `slide_ids` are all slides of the cohort, in its order: bags come in one order whichever
    learners predict.
    """
    evaluations: dict[Learner, Evaluation] = {}
    for learner, side in zip(learners, sides, strict=True):
        evaluation = call_or_record_error(learner, learner.begin_prediction, side)
        if evaluation is not None:
            evaluations[learner] = evaluation
    slides = {learner: dict.fromkeys(evaluation.index_by_slide, 1) for learner, evaluation in evaluations.items()}
    with left_as_it_was():
        for learner, slide, bag in bags_for(slides, map(Visit, slide_ids), features):
            _evaluate(learner, evaluations[learner], slide, bag)
        predictions = {each: call_or_record_error(each, evaluation.finish) for each, evaluation in evaluations.items()}
    return [predictions.get(learner) for learner in learners]


def _evaluate(learner: Learner, evaluation: Evaluation, slide_id: str, bag: Patches) -> None:
    """Add a bag to an evaluation; if it only waits, no model runs that would need a guard."""
    if evaluation.only_waits(bag):
        evaluation.add(slide_id, bag)
    else:
        call_or_record_error(learner, evaluation.add, slide_id, bag)


def bags_for(
    visits_of: Mapping[Learner, Mapping[str, int]],
    order: Iterable[Visit],
    features: Features,
    draws: Mapping[Learner, PatchDraw | None] = MappingProxyType({}),
) -> Iterator[tuple[Learner, str, Patches]]:
    """Learner, slide and patches of every visit that a learner makes, one by one; as `bags_by_visit`."""
    for shown in bags_by_visit(visits_of, order, features, draws):
        yield from shown


def bags_by_visit(
    visits_of: Mapping[Learner, Mapping[str, int]],
    order: Iterable[Visit],
    features: Features,
    draws: Mapping[Learner, PatchDraw | None] = MappingProxyType({}),
) -> Iterator[Iterator[tuple[Learner, str, Patches]]]:
    """For every visit, in this order: learner, slide and patches with scaled float32 features, for each learner that makes it.

    What no learner visits is not read. Each other visit is read once, and made ready once per scaler and draw.

    Parameters
    ----------
    visits_of : number of visits by slide, of each learner.
    draws : which patches a learner sees; all of them if it has no draw.
    """
    at_work = {learner: visits for learner, visits in visits_of.items() if learner.error is None}
    needed = [visit for visit in order if any(_makes(visits, visit) for visits in at_work.values())]
    for visit, (_, stored) in zip(needed, features.in_order([visit.slide_id for visit in needed]), strict=True):
        makers = [learner for learner, visits in at_work.items() if _makes(visits, visit)]
        yield _shown_to(makers, _Shown(stored, visit), draws)


def _shown_to(
    learners: Iterable[Learner], shown: _Shown, draws: Mapping[Learner, PatchDraw | None]
) -> Iterator[tuple[Learner, str, Patches]]:
    for learner in learners:
        if learner.error is None:  # an earlier bag may have ended its work
            draw = draws.get(learner)
            layout = shown.layout(draw) if learner.weights.model.needs_coords else None
            yield (
                learner,
                shown.visit.slide_id,
                Patches(shown.features(learner.scaler, draw), layout, shown.stored.problem),
            )


class _Shown:
    """What the learners are shown of one bag; what several of them see alike is made once."""

    def __init__(self, stored: Patches, visit: Visit) -> None:
        self.stored, self.visit = stored, visit
        self._rows: dict[PatchDraw | None, Tensor | None] = {None: None}
        self._layouts: dict[PatchDraw | None, Layout | None] = {}
        self._features: dict[tuple[FeatureScaler, PatchDraw | None], Tensor] = {}

    def features(self, scaler: FeatureScaler, draw: PatchDraw | None) -> Tensor:
        """Scaled features of the drawn patches."""
        if (scaler, draw) not in self._features:
            rows, features = self._drawn(draw), self.stored.features
            self._features[scaler, draw] = scaler(features if rows is None else features[rows])
        return self._features[scaler, draw]

    def layout(self, draw: PatchDraw | None) -> Layout | None:
        """Places of the drawn patches, and the neighbours that they have among themselves."""
        if draw not in self._layouts:
            rows = self._drawn(draw)
            self._layouts[draw] = (self.stored if rows is None else self.stored.rows(rows)).layout
        return self._layouts[draw]

    def _drawn(self, draw: PatchDraw | None) -> Tensor | None:
        if draw is not None and draw not in self._rows:
            rows = draw.rows(len(self.stored), self.visit)
            self._rows[draw] = None if rows is None else rows.to(self.stored.features.device)
        return self._rows[draw]


def _makes(visits: Mapping[str, int], visit: Visit) -> bool:
    return visit.number < visits.get(visit.slide_id, 0)


def call_or_record_error(learner: Learner, action: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R | None:
    """Result of the learner's action, on the learner's own time; None if its model raises now or has raised before.

    What the model raises becomes the learner's `error`, and ends the work of this learner alone.
    """
    return None if learner.error is not None else _called([learner], action, *arguments, **named)


def _call_together(stack: FoldStack, action: Callable[[], None]) -> None:
    """Let the members of a stack act, on the time of all of them; what the model raises becomes the error of each."""
    if stack.members and stack.error is None:
        _called(stack.members, action)
    _share_error(stack)


def _share_error(stack: FoldStack) -> None:
    """End the work of all learners of a stack if one of them has an error."""
    error = stack.error
    for learner in stack.learners if error is not None else ():
        learner.error = learner.error or error


def _called(learners: Sequence[Learner], action: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R | None:
    begun = perf_counter()
    before = read_shared(OF_TRAINING)
    result: R | None = None
    raised: BaseException | None = None
    try:
        result = action(*arguments, **named)
    except DataError:
        raise
    except (Exception, SystemExit, DidNotReturnError) as error:  # noqa: BLE001 - whatever a model does is a result, not a crash
        traceback.clear_frames(error.__traceback__)  # they hold the activations, for as long as the pass takes
        raised = error
    finally:
        seconds = (perf_counter() - begun) / len(learners)
        moved = put_back(OF_TRAINING, before)
    if moved and raised is None:
        raised = MilbenchError(
            f"{type(learners[0].weights.model).__name__} changes {', '.join(map(str, moved))}, which all models of the process "
            "share. It was put back. Leave it as it is in forward and loss (docs/models.md)."
        )
    for learner in learners:
        learner.seconds += seconds
        learner.error = raised
    return result if raised is None else None
