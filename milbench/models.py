"""What a model file needs: `MILModel` to inherit from, `BagOutput` to return, `@register_model` to register.

A whole model file::

    @register_model("mean", title="Mean of the patches", tasks="single")
    class Mean(MILModel):
        def __init__(self, in_features: int, n_outputs: int) -> None:
            super().__init__(in_features, n_outputs)
            self.head = nn.Linear(in_features, n_outputs)

        def forward(self, features: Tensor) -> BagOutput:  # [N, D]
            return BagOutput(self.head(features.mean(dim=0)), None, {})
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.losses import task_losses, weighted_bce
from milbench.endpoints.outputs import Outputs
from milbench.errors import BagError, UsageError, unknown_name
from milbench.layout import Inputs, Layout, Patches, no_layout, refuse_misfit, square
from milbench.model_info import ModelInfo, Sharing
from milbench.names import MODEL_GROUPS
from milbench.process.generators import generators_left_as_they_were, seed_global_generators
from milbench.search_space import SearchSpace

__all__ = ["REGISTERED", "AttentionMaps", "BagOutput", "MILModel", "ModelInfo", "Sharing", "build", "register_model"]


class BagOutput(NamedTuple):
    """Output of a model for one bag.

    Attributes
    ----------
    logits : Tensor [W]. One logit per binary task, whose probability is its sigmoid; other kinds have as many as
        docs/endpoints.md says (C for C classes).
    attention : Tensor [A, N] or None. One row per head, expert or class; `MILModel.attention_rows` names them.
    aux : tensors by name, for the model's own loss or for pictures: instance logits, gate weights, ...
    """

    logits: Tensor
    attention: Tensor | None
    aux: dict[str, Tensor]


class MILModel(nn.Module, ABC):
    """Base class of every model. A model file writes these methods, the most needed first.

    ==================  ========  ================================================================================
    ``__init__``        always    layers. Takes `in_features` and `n_outputs`; its options are keyword-only, with defaults
    ``forward``         always    output for one bag
    ``loss``            optional  default: each task's loss by its kind, summed over the known tasks
    ``attention_rows``  optional  names of the rows of `BagOutput.attention`; default: none
    ``attention_maps``  optional  where the model looks, for heatmaps; default: `BagOutput.attention`
    ``from_official``   optional  the model with the weights of an official checkpoint
    ``of_stack``        optional  losses and logits of a stack of models for small bags, faster than by `torch.func.vmap`
    ==================  ========  ================================================================================

    A forward takes ONE bag [N, D]. If it keeps these rules, `torch.func.vmap` can run many bags or many copies at once:

    * it does not change the bag, because all models share it;
    * it does not branch on the values of tensors;
    * it draws random numbers through torch's generator, or those that NumPy and Python share;
    * it keeps no state between calls.

    A model that declares `needs_coords` gets a :class:`milbench.layout.Layout` too: ``forward(features, layout)``, and
    ``attention_maps(features, layout)`` if it defines that.

    Attributes
    ----------
    info : what the model declared when it registered.
    in_features, n_tasks : D and T.
    outputs : number W of logits, with the tasks that they answer; a plain number stands for binary tasks.
    training_smoothing : `trainer.label_smoothing`, which the trainer sets.
    asked_for_smoothing : whether the loss has read `smoothing`, as `task_losses` does: another loss would leave it out.
    n_neighbours : number K of nearest patches that a model which needs coordinates gets of each patch, itself included.
    """

    info: ClassVar[ModelInfo]
    in_features: int
    n_tasks: int
    outputs: Outputs
    training_smoothing: float
    asked_for_smoothing: bool
    n_neighbours: int = 0

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.outputs = Outputs.of(n_outputs)
        self.n_tasks = self.outputs.n_tasks
        self.training_smoothing, self.asked_for_smoothing = 0.0, False
        self.register_forward_pre_hook(_refuse_a_bag_that_does_not_fit)

    @abstractmethod
    def forward(self, features: Tensor) -> BagOutput:
        """Output for one bag, `features` [N, D]."""

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Loss of one bag, a scalar; this default is each task's loss by its kind, summed over the known tasks.

        If you define your own, multiply each task's loss by `known`, and get losses of logits from `task_losses`, which
        smooths labels if the recipe says so.

        Parameters
        ----------
        output : what `forward` returned for this bag.
        targets : Tensor [T]. Binary: 0 or 1; other kinds as `milbench.endpoints.fitted` says. Any finite number where
            the label is unknown.
        known : Tensor [T], weight of each task: 0 where the label is unknown, else 1 unless classes or tasks are
            weighted; same dtype as `targets`.
        """
        is_plain = self.outputs.all_binary and type(self).task_losses is MILModel.task_losses
        if is_plain and not known.requires_grad:  # the same in a third of the operations; it gives `known` no gradient
            return weighted_bce(output.logits, targets, known, smoothing=self.smoothing)
        return (self.task_losses(output.logits, targets) * known).sum()

    def task_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses [..., T] of logits [..., W], each by its task's kind; `targets` as in `loss`."""
        return task_losses(self.outputs, logits, targets, smoothing=self.smoothing)

    def of_stack(self, bags: Sequence[Tensor], targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor] | None:
        """Losses [S, B] and logits [S, B, W] of a stack of S models for B bags of one size; None = `forward` and `loss` find them.

        A class may define this as a short cut past `torch.func.vmap`, which takes longer to start its operations than a
        small bag's products take. It holds for `forward` and `loss` of this very class: subclasses do not inherit it. It
        must find the same up to rounding, and draw the same random numbers: one draw per bag, which all models share.

        Parameters
        ----------
        bags : features [N, D] of each.
        targets, known : [S, B, T], as in `loss`.

        Meanwhile all parameters of the model are those of the stack, [S, ...].
        """
        return None

    def has_hooks(self) -> bool:
        """Whether somebody else listens to a forward or backward of the model or of a part of it, by a hook that torch calls."""
        found = (
            hook
            for part in self.modules()
            for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
            for hook in hooks.values()
        )
        return any(hook is not _refuse_a_bag_that_does_not_fit for hook in found)

    @property
    def smoothing(self) -> float:
        """Share of each label that is spread over its classes (`trainer.label_smoothing`): in training alone."""
        if not self.asked_for_smoothing:  # a module looks at whatever it is given, at each step
            self.asked_for_smoothing = True
        return self.training_smoothing if self.training else 0.0

    def attention_rows(self) -> tuple[str, ...]:
        """Names of the rows of `BagOutput.attention`; none if the model has no attention."""
        return ()

    def attention_maps(self, features: Tensor) -> AttentionMaps:
        """Maps of where the model, in eval mode, looks in one bag, `features` [N, D].

        This default shows `BagOutput.attention`. If it has one row per map (`Outputs.maps`), those are the maps. Otherwise
        the mean of the rows is the map of every task. If the model looks elsewhere, define this method.

        Raises
        ------
        UsageError : the model has no attention and does not define this method.
        """
        return self._maps_of(self(features))

    def maps(self, patches: Patches) -> AttentionMaps:
        """Maps of one bag: what `attention_maps` says, with the bag's layout if the model needs it. For callers alone."""
        if type(self).attention_maps is MILModel.attention_maps:
            return self._maps_of(self(*self.inputs(patches)))
        return self.attention_maps(*self.inputs(patches))

    def inputs(self, patches: Patches) -> Inputs:
        """What `forward` takes of a bag: its features, and its layout with `n_neighbours` if the model needs it."""
        if not self.needs_coords:
            return (patches.features,)
        if patches.layout is None:
            raise BagError(patches.problem or no_layout(type(self).__name__, self.n_neighbours))
        coords, neighbours = patches.layout
        return patches.features, Layout(coords, neighbours[..., : self.n_neighbours].long())

    @property
    def needs_coords(self) -> bool:
        """Whether its forward takes a layout, as its class declares."""
        info = getattr(self, "info", None)  # a class that nobody registered has none
        return info is not None and info.needs_coords

    @property
    def wanted_neighbours(self) -> int | None:
        """Neighbours that layouts must hold for the model; None = it takes no layout."""
        return self.n_neighbours if self.needs_coords else None

    def bag_like(self, features: Tensor) -> Patches:
        """A made-up bag of these features [N, D], on a square if the model asks where patches lie: to try the model on."""
        layout = square(len(features), self.n_neighbours) if self.needs_coords else None
        return Patches(features, layout).each(lambda tensor: tensor.to(features.device))

    def _maps_of(self, output: BagOutput) -> AttentionMaps:
        if output.attention is None:
            raise UsageError(
                f"{self.info.title} has no attention to draw: its forward returns none. "
                "Return attention in BagOutput.attention, or define attention_maps(features) (docs/models.md)."
            )
        rows = output.attention.detach()
        n_maps = len(self.outputs.maps)
        if len(rows) == n_maps:
            return AttentionMaps("attention", rows, output.logits.detach())
        names = self.attention_rows()
        names = names if len(names) == len(rows) else tuple(f"row {row + 1}" for row in range(len(rows)))
        mean = rows.mean(dim=0).expand(n_maps, -1)
        return AttentionMaps(
            "mean of the attention's rows", mean, output.logits.detach(), per_expert=rows, experts=names
        )

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], **options: Any) -> MILModel:
        """Model in eval mode with the weights of an official checkpoint.

        Sizes are read from the tensors. `options` are the constructor arguments that no tensor shows.

        Raises
        ------
        CheckpointError : a tensor is missing, left over or of another shape.
        UsageError : the model does not define this method.
        """
        raise UsageError(
            f"{cls.__name__} cannot load official checkpoints. Define from_official(state_dict) in its class."
        )


def _refuse_a_bag_that_does_not_fit(model: Any, args: tuple[Any, ...]) -> None:
    shape, wants_layout = args[0].shape, model.needs_coords
    if not wants_layout and len(shape) == 2 and shape[0] and shape[1] == model.in_features:
        return  # nearly all bags: a small one is computed in the time of a few questions
    refuse_misfit(type(model).__name__, args, model.in_features, model.wanted_neighbours)


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Maps of where a model looks in one bag.

    Attributes
    ----------
    kind : what `per_task` shows, in words for a legend: "softmax attention", "instance logits", ...
    per_task : Tensor [R, N], rows as `Outputs.maps` names them: one per task, one per class of a multiclass task. A patch
        with a higher value counts more for the task or class.
    logits : Tensor [W]. Logits of the pass that the maps come from.
    is_distribution : whether every row of `per_task` is non-negative and sums to 1.
    per_expert : Tensor [E, N] or None. One map per expert or head, if the model has several.
    experts : names of the rows of `per_expert`.
    gates : Tensor [T, E] or None. Weight of every expert for every task; rows sum to 1.
    alternatives : other maps [R, N] of the model, by name.
    """

    kind: str
    per_task: Tensor
    logits: Tensor
    is_distribution: bool = False
    per_expert: Tensor | None = None
    experts: tuple[str, ...] = ()
    gates: Tensor | None = None
    alternatives: Mapping[str, Tensor] = field(default_factory=dict)


def build(
    model: type[MILModel], in_features: int, n_outputs: int, hyperparameters: Mapping[str, Any], *, seed: int
) -> MILModel:
    """A new model for `n_outputs` logits, an `Outputs` where tasks are not all binary.

    Whatever its constructor draws, from torch, NumPy or Python, is decided by `seed`.
    The generators continue afterwards as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=[]), generators_left_as_they_were():
        torch.manual_seed(seed)
        seed_global_generators(seed, 0)
        return model(in_features, Outputs.of(n_outputs), **hyperparameters)


def _place(model: type[MILModel]) -> tuple[str | None, str]:
    """File and name of a class. They stay the same if the file is imported twice, under two module names."""
    return getattr(sys.modules.get(model.__module__), "__file__", None), model.__qualname__


ModelClass = TypeVar("ModelClass", bound=type[MILModel])

REGISTERED: dict[str, type[MILModel]] = {}
"""Every registered model class by name, in order of registration. Read it through `milbench.registry`."""


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
    takes_cohort_settings: bool = False,
    kinds: Sequence[str] | None = None,
    learns_cox: bool | None = None,
    search_space: SearchSpace | None = None,
    needs_coords: bool = False,
    study: bool = False,
    sharing: Sharing | None = None,
) -> Callable[[ModelClass], ModelClass]:
    """Class decorator that registers a `MILModel`; arguments as in `ModelInfo`.

    Raises
    ------
    UsageError : another class has the name, no model can have it, or a kind does not exist.
    """
    if not name.strip():
        raise UsageError(f"no model can be called '{name}'. Give it a name.")
    if name in MODEL_GROUPS:
        raise UsageError(
            f"no model can be called '{name}': `--models {name}` names a group of models. Call it otherwise."
        )
    if not isinstance(search_space, SearchSpace | None):
        raise UsageError(f"the search space of model '{name}' is {search_space!r}; expected a SearchSpace.")
    if not isinstance(sharing, Sharing | None):
        raise UsageError(f"the place of model '{name}' on the ladder of sharing is {sharing!r}; expected a Sharing.")
    for kind in kinds or ():
        if kind not in KINDS:
            raise unknown_name(f"kind of task that model '{name}' declares", kind, KINDS)

    def register(cls: ModelClass) -> ModelClass:
        taken = REGISTERED.get(name)
        if taken is not None and _place(taken) != _place(cls):
            raise UsageError(
                f"two models are called '{name}': {taken.__module__}.{taken.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}. Rename one of them."
            )
        recipe = dict(official_recipe or {})
        # a loss written for 0 and 1 would take the standardised value of a score without a word
        has_usual_loss = cls.loss is MILModel.loss
        usual = KINDS if has_usual_loss else ("binary",)
        cls.info = ModelInfo(
            name, title, tasks, paper, official, order_matters, version, recipe, takes_cohort_settings,
            usual if kinds is None else tuple(kinds), has_usual_loss if learns_cox is None else learns_cox,
            search_space, needs_coords, study, sharing,
        )  # fmt: skip
        REGISTERED[name] = cls
        return cls

    return register
