"""What a model is: `MILModel`, `BagOutput` and `@register_model`.

This module and :mod:`milbench.bag` are all that a model file needs to import.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from milbench.errors import BagError, UsageError


class BagOutput(NamedTuple):
    """What a model says of one bag.

    Attributes
    ----------
    logits : Tensor [T]. One logit a task; the probability is its sigmoid.
    attention : Tensor [A, N] or None. One row per head, expert or class (`MILModel.attention_rows`).
    aux : dict of tensors for the model's own loss or for pictures (instance logits, gate weights, ...).
    """

    logits: Tensor
    attention: Tensor | None
    aux: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Where a model looks in one bag.

    Attributes
    ----------
    kind : what `per_task` is, in words for a legend: "softmax attention", "instance logits", ...
    per_task : Tensor [T, N]. More means that the patch counts more for the task.
    logits : Tensor [T]. The answer that the maps belong to, of the same pass.
    is_distribution : whether every row of `per_task` is non-negative and sums to 1.
    per_expert : Tensor [E, N] or None. One map an expert (or head), where the model has several.
    experts : names of the rows of `per_expert`.
    gates : Tensor [T, E] or None. Weight of every expert in every task's answer; rows sum to 1.
    alternatives : other maps [T, N] that the model offers, by name.
    """

    kind: str
    per_task: Tensor
    logits: Tensor
    is_distribution: bool = False
    per_expert: Tensor | None = None
    experts: tuple[str, ...] = ()
    gates: Tensor | None = None
    alternatives: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInfo:
    """What a model declares about itself when it registers.

    Attributes
    ----------
    name : registry name, also the name of its file.
    title : how tables and figures call it.
    tasks : "single" (one trial a task) or "multi" (one trial for all tasks).
    paper, official : where it comes from: citation and official repository at a commit.
    order_matters : whether the order of the patches changes the answer.
    version : bumped whenever the model's results change; part of every trial's identity.
    official_recipe : training recipe of the official code, as data (see :mod:`milbench.trials.recipe`).
    """

    name: str
    title: str
    tasks: Literal["single", "multi"]
    paper: str
    official: str
    order_matters: bool = False
    version: int = 1
    official_recipe: Mapping[str, Any] = field(default_factory=dict)


class MILModel(nn.Module, ABC):
    """A model of one bag.

    A forward takes ONE bag [N, D] and writes into a copy only, never branches on tensor values, draws randomness only
    through torch and keeps no state, so `torch.func.vmap` can run many bags or many copies at once.
    """

    info: ClassVar[ModelInfo]
    in_features: int
    n_tasks: int

    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.n_tasks = n_tasks
        self.register_forward_pre_hook(_refuse_a_bag_that_does_not_fit)

    @abstractmethod
    def forward(self, features: Tensor) -> BagOutput:
        """Output for one bag, `features` [N, D]."""

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Binary cross-entropy summed over the known tasks, a scalar.

        Parameters
        ----------
        output : what `forward` returned for this bag.
        targets : Tensor [T] in {0, 1}; any finite value where unknown.
        known : Tensor [T], 1 where the label is known, 0 elsewhere, same dtype as `targets`.
        """
        return (binary_cross_entropy_with_logits(output.logits, targets, reduction="none") * known).sum()

    def attention_rows(self) -> tuple[str, ...]:
        """Names of the rows of `BagOutput.attention`; empty when the model has none."""
        return ()

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Where the model, in eval mode, looks in one bag, `features` [N, D]; a model file says what that is.

        This default shows `BagOutput.attention`: its rows where there is one a task, else their mean for every task.

        Raises
        ------
        UsageError : the model has no attention and defines no maps of its own.
        """
        output = self(features)
        if output.attention is None:
            raise UsageError(
                f"{self.info.title} has no attention to draw: its forward returns none. "
                "Return one in BagOutput.attention, or define attention_maps(features) (docs/models.md)."
            )
        rows = output.attention.detach()
        if len(rows) == self.n_tasks:
            return AttentionMaps("attention", rows, output.logits.detach())
        names = self.attention_rows()
        names = names if len(names) == len(rows) else tuple(f"row {row + 1}" for row in range(len(rows)))
        mean = rows.mean(dim=0).expand(self.n_tasks, -1)
        return AttentionMaps(
            "mean of the attention's rows", mean, output.logits.detach(), per_expert=rows, experts=names
        )

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], **options: Any) -> MILModel:
        """Model in eval mode with the weights of an official checkpoint.

        Sizes are read from the tensors; `options` are constructor arguments that no tensor tells.

        Raises
        ------
        CheckpointError : a tensor is missing, left over or of another shape.
        """
        raise UsageError(f"{cls.__name__} has no official checkpoint to load.")


def _refuse_a_bag_that_does_not_fit(model: Any, args: tuple[Tensor, ...]) -> None:
    """Raise `BagError` unless the only argument is a bag [N >= 1, in_features]."""
    shape = tuple(args[0].shape)
    if len(shape) != 2 or shape[1] != model.in_features:
        raise BagError(f"{type(model).__name__} expects one bag of shape (patches, {model.in_features}), got {shape}.")
    if shape[0] == 0:
        raise BagError(f"{type(model).__name__} was given an empty bag (0 patches). Drop the slide or re-extract it.")


def _place(model: type[MILModel]) -> tuple[str | None, str]:
    """File and name of a class: a file that is imported twice, under two module names, defines the same models."""
    return getattr(sys.modules.get(model.__module__), "__file__", None), model.__qualname__


ModelClass = TypeVar("ModelClass", bound=type[MILModel])

REGISTERED: dict[str, type[MILModel]] = {}
"""Every registered model class by name, in order of registration; read it through `milbench.registry`."""


def register_model(
    name: str,
    *,
    title: str,
    tasks: Literal["single", "multi"],
    paper: str = "",
    official: str = "",
    order_matters: bool = False,
    version: int = 1,
    official_recipe: Mapping[str, Any] | None = None,
) -> Callable[[ModelClass], ModelClass]:
    """Class decorator that puts a `MILModel` into the registry; arguments as in `ModelInfo`.

    Raises
    ------
    UsageError : the name is taken by another class.
    """

    def register(cls: ModelClass) -> ModelClass:
        taken = REGISTERED.get(name)
        if taken is not None and _place(taken) != _place(cls):
            raise UsageError(
                f"two models are called '{name}': {taken.__module__}.{taken.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}. Rename one of them."
            )
        cls.info = ModelInfo(name, title, tasks, paper, official, order_matters, version, dict(official_recipe or {}))
        REGISTERED[name] = cls
        return cls

    return register
