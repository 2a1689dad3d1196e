"""Recipe: optimiser, schedule, epochs and selection rule, as frozen data with a name.

Two protocols make recipes:

- ``m4``: the common trainer of the M4 study, the same for every model (Bigyehahaha/M4@192a77b).
  A cohort may declare settings fit for its size; they too are the same for every model.
- ``official``: what each model's own repository does, declared beside the model.

Precedence, lowest first: protocol, cohort (``m4`` only), the user's ``trainer.*``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import cos, isfinite, pi
from typing import Any, Literal, get_args, get_origin, get_type_hints

from milbench.endpoints.fitted import FittedEndpoint, LossOptions
from milbench.errors import UsageError, unknown_name
from milbench.models import MILModel

Protocol = Literal["m4", "official"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes
    ----------
    name : protocol that it comes from.
    optimizer : "adam", "adamw" or "lookahead_radam".
    lr, betas, weight_decay : of the optimiser; Adam's decay is coupled (L2), that of the others decoupled.
    decay_vectors : whether one-dimensional tensors (biases, norm scales) decay too.
    schedule : "constant", "cosine" (per epoch, down to `lr_floor` times `lr`) or "multistep".
    milestones, gamma : epochs at which "multistep" multiplies the rate by `gamma`.
    warmup : epochs, or a part of one, over whose steps the rate rises in equal parts to what the schedule says.
    epochs : passes over the training slides.
    bags_per_step : bags an optimiser step; their losses are averaged.
    sampler : "shuffle" visits each training slide once per epoch; "balanced" draws as many slides with replacement, so
        that classes come equally often.
    bag_patches : the most patches of a bag that a training step sees, drawn anew at each visit; None = all.
    select_by : "val_auroc" (strictly best mean validation AUROC) or "val_loss" (lowest).
    select_after : fraction of the epochs before which no epoch can be selected.
    patience : epochs without improvement before training stops; None = never.
    clip_norm : gradient norm to which each top-level part of the model is clipped; None = no clipping.
    model : constructor arguments that the recipe asks for.
    ordinal_loss, regression_loss, survival_loss : loss by kind of task (docs/endpoints.md).
    survival_bins, survival_alpha, survival_eps : of the discrete-time likelihood: number of time bins, share by which
        censored patients count less, smallest probability (0 = exact).
    label_smoothing : share of each label that is spread evenly over the classes, in training; of binary tasks, classes,
        and grades learned by "ce".
    class_weights : "balanced" weighs each training slide by N / (C n_k) of its class; of binary tasks and of classes.
    task_weights : how losses of several tasks are added where one is not binary: "constant" divides each by that of the
        best constant answer, "equal" does not; "uncertainty" and "dwa" move the weights as they train.
    """

    name: str = "m4"
    optimizer: Literal["adam", "adamw", "lookahead_radam"] = "adam"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 4e-5
    decay_vectors: bool = True
    schedule: Literal["constant", "cosine", "multistep"] = "cosine"
    lr_floor: float = 0.1
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    epochs: int = 32
    bags_per_step: int = 1
    select_by: Literal["val_auroc", "val_loss"] = "val_auroc"
    select_after: float = 0.0
    patience: int | None = None
    clip_norm: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    ordinal_loss: Literal["corn", "ce", "l1"] = "corn"
    regression_loss: Literal["huber", "l1", "mse"] = "huber"
    survival_loss: Literal["nll", "cox"] = "nll"
    survival_bins: int = 4
    survival_alpha: float = 0.0
    survival_eps: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    task_weights: Literal["constant", "equal", "uncertainty", "dwa"] = "constant"
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    bag_patches: int | None = None
    label_smoothing: float = 0.0
    warmup: float = 0.0

    def lr_factor(self, epoch: int) -> float:
        """Learning rate of `epoch` (from 0) as a fraction of `lr`."""
        if self.schedule == "cosine":
            return (1 + cos(pi * epoch / self.epochs)) / 2 * (1 - self.lr_floor) + self.lr_floor
        if self.schedule == "multistep":
            return float(self.gamma ** sum(epoch >= milestone for milestone in self.milestones))
        return 1.0

    def warmup_factor(self, steps_taken: int, steps_per_epoch: int) -> float:
        """Share of the schedule's rate that the step after `steps_taken` others takes."""
        return min(1.0, (steps_taken + 1) / max(1.0, self.warmup * steps_per_epoch))

    def can_select(self, epoch: int) -> bool:
        """Whether `epoch` (from 0) may be the one that is kept."""
        return self.select_after == 0 or epoch > self.select_after * self.epochs

    @property
    def stacks_with_other_rates(self) -> bool:
        """Whether a trial may take its steps together with trials that differ from it in `RATES`."""
        return self.optimizer != "lookahead_radam" and self.sampler != "balanced"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the trial's identity and for YAML.

        How one kind of task is learned stands in the trial's endpoints. What was added after trials had been stored is
        left out where it is as it always was, so that their identity stays.
        """
        usual = Recipe()
        return {
            key: value
            for key, value in asdict(self).items()
            if key not in OF_ONE_KIND and (key not in ADDED_LATER or value != getattr(usual, key))
        }

    def of_tasks(self, n_tasks: int, endpoints: Sequence[FittedEndpoint]) -> Recipe:
        """The recipe as a trial of these tasks follows it: a rule that changes nothing there is the usual one.

        So the rule does not stand in the trial's identity, and asking for it computes no finished trial again.

        Parameters
        ----------
        endpoints : of the tasks; empty if all are binary.
        """
        has_classes = not endpoints or any(each.has_classes for each in endpoints)
        smooths = not endpoints or any(each.loss in ("bce", "ce") for each in endpoints)
        moves = self.task_weights in ("uncertainty", "dwa") and n_tasks > 1
        adds_plainly = self.task_weights == "equal" and bool(endpoints)
        return replace(
            self,
            class_weights=self.class_weights if has_classes else "none",
            task_weights=self.task_weights if moves or adds_plainly else "constant",
            sampler=self.sampler if has_classes else "shuffle",
            label_smoothing=self.label_smoothing if smooths else 0.0,
        )

    @property
    def loss_options(self) -> LossOptions:
        """How tasks that are not binary are learned."""
        return LossOptions(
            self.ordinal_loss, self.regression_loss, self.survival_loss, self.survival_bins, self.survival_alpha,
            self.survival_eps,
        )  # fmt: skip


OF_ONE_KIND = frozenset(
    {"ordinal_loss", "regression_loss", "survival_loss", "survival_bins", "survival_alpha", "survival_eps"}
)
"""Settings that `FittedEndpoint` holds of the tasks that ask for them."""

RATES = ("lr", "weight_decay")
"""Settings that each trial of a stack may have of its own."""

ADDED_LATER = frozenset({"class_weights", "task_weights", "sampler", "bag_patches", "label_smoothing", "warmup"})

SETTINGS = tuple(f.name for f in fields(Recipe) if f.name not in {"name", "model"})
"""What `trainer.*` may set."""

_TYPES = get_type_hints(Recipe)
_ABOVE_ZERO = {"lr", "epochs", "bags_per_step", "clip_norm", "gamma", "bag_patches"}
_AT_LEAST_ZERO = {
    "weight_decay", "lr_floor", "select_after", "patience", "survival_alpha", "survival_eps", "label_smoothing", "warmup",
}  # fmt: skip
_AT_LEAST_TWO = {"survival_bins"}
_BELOW_ONE = {"label_smoothing"}
_AT_MOST = {
    "epochs": 1_000_000, "bags_per_step": 1_000_000, "lr": 1000.0, "lr_floor": 1.0, "select_after": 1.0,
    "survival_bins": 100, "survival_alpha": 1.0, "survival_eps": 0.1,
}  # fmt: skip


def recipe_for(
    model: type[MILModel], protocol: str, cohort_settings: Mapping[str, Any], user_settings: Mapping[str, Any]
) -> Recipe:
    """Recipe of one model on one cohort.

    Raises
    ------
    UsageError : unknown protocol or setting, or a value that makes no sense.
    """
    if protocol == "m4":
        base = changed(Recipe(), cohort_settings)
    elif protocol == "official":
        base = _official(model)
    else:
        raise unknown_name("protocol", protocol, ("m4", "official"))
    recipe = changed(base, user_settings)
    refuse_long_warmup(recipe)
    return recipe


def refuse_long_warmup(recipe: Recipe) -> None:
    """Raise if a training would end before its rate has risen."""
    if recipe.warmup > recipe.epochs:
        raise UsageError(
            f"trainer.warmup is {recipe.warmup:g} epochs, and training takes {recipe.epochs}. "
            "Set trainer.warmup to fewer epochs."
        )


def _official(model: type[MILModel]) -> Recipe:
    declared = dict(model.info.official_recipe)
    if not declared:
        return Recipe(name="official")
    arguments = declared.pop("model", {})
    return replace(changed(Recipe(name="official"), declared), model=dict(arguments))


def changed(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`recipe` with `settings` checked and put in."""
    return replace(recipe, **{key: _checked(key, value) for key, value in settings.items()})


def _checked(key: str, value: Any) -> Any:
    if key not in SETTINGS:
        raise unknown_name("trainer setting", key, SETTINGS)
    value = _as_type(key, value)
    if isinstance(value, float) and not isfinite(value):
        raise UsageError(f"trainer.{key} is {value}; expected a finite number.")
    if value is not None and ((key in _ABOVE_ZERO and value <= 0) or (key in _AT_LEAST_ZERO and value < 0)):
        raise UsageError(f"trainer.{key} is {value}; it must be {'above' if key in _ABOVE_ZERO else 'at least'} 0.")
    if key in _AT_LEAST_TWO and value < 2:
        raise UsageError(f"trainer.{key} is {value}; expected 2 or more.")
    if key in _BELOW_ONE and value >= 1:
        raise UsageError(f"trainer.{key} is {value}; it must be below 1.")
    if key in _AT_MOST and value > _AT_MOST[key]:
        raise UsageError(f"trainer.{key} is {value}; the most is {_AT_MOST[key]:,}.")
    if key == "betas" and (len(value) != 2 or not all(_is_share(beta) for beta in value)):
        raise UsageError(f"trainer.betas is {list(value)}; expected two numbers from 0 to below 1.")
    if key == "milestones" and not all(type(epoch) is int and epoch >= 0 for epoch in value):
        raise UsageError(f"trainer.milestones is {list(value)}; expected numbers of epochs.")
    return value


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def _as_type(key: str, value: Any) -> Any:
    """`value` as the type that the field declares: YAML gives lists for tuples and 1 for 1.0."""
    wanted = _TYPES[key]
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise unknown_name(f"trainer.{key}", str(value), get_args(wanted))
        return value
    if value is None and type(None) in get_args(wanted):
        return None
    if get_origin(wanted) is tuple and isinstance(value, (list, tuple)):
        return tuple(value)
    expected = next((t for t in (*get_args(wanted), wanted) if t in (bool, int, float)), None)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if expected is None or type(value) is not expected:
        name = expected.__name__ if expected else "list"
        raise UsageError(f"trainer.{key} is {value!r}; expected a value of type {name}.{_hint(value)}")
    return value


def _hint(value: Any) -> str:
    """How to write a number that YAML reads as text."""
    is_power = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?e[+-]?\d+", value, re.IGNORECASE)
    return f" YAML wants a point and a sign in powers of ten: write {float(value):.1e}." if is_power else ""
