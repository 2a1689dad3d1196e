"""Contract: one model tried on small bags, and which rules of docs/models.md it breaks.

Each finding says where the model stands, what it does and what to do instead. A finding is final if no training can end
right. The others are warnings: they depend on the bags that a cohort holds.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.func import vmap

from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.layout import Inputs, stacked
from milbench.models import BagOutput, MILModel, build
from milbench.process.generators import generators_left_as_they_were, seed_global_generators
from milbench.process.shared_state import WARNING_FILTERS, left_as_it_was
from milbench.training.no_numbers import without_numbers

LONGEST_REASON = 200
BAG_SIZES = (1, 2, 7)
"""Patches of the bags: the fewest, a pair, and a number that no grid or group divides."""


class Finding(NamedTuple):
    """A broken rule.

    Attributes
    ----------
    is_final : whether no training of the model can end right.
    """

    is_final: bool
    what: str


class BrokenRule(Exception):
    """Raised where a rule is found broken."""

    def __init__(self, what: str, *, is_final: bool = True) -> None:
        super().__init__(what)
        self.finding = Finding(is_final, what)


def findings_of(
    model: type[MILModel],
    in_features: int,
    n_outputs: int,
    hyperparameters: Mapping[str, Any],
    *,
    tasks: Sequence[str] = (),
    seed: int = 0,
) -> list[Finding]:
    """The rules that the model breaks; empty if it keeps all that can be seen on three small bags.

    The process, its generators and its settings are left as they were.

    Parameters
    ----------
    n_outputs : number of logits, an `Outputs` where tasks are not all binary.
    tasks : names of the tasks, for messages.
    """
    found: list[Finding] = []
    with warnings.catch_warnings(), left_as_it_was() as moved:
        warnings.simplefilter("ignore")
        try:
            built = _built(model, in_features, n_outputs, hyperparameters, seed)
            found += _findings_of_built(built, tasks, seed)
        except BrokenRule as broken:
            found.append(broken.finding)
    if shared := [each for each in moved if each.name != WARNING_FILTERS]:
        what = f"it changes {', '.join(map(str, shared))}, which all models of the process share"
        found.append(Finding(is_final=True, what=what))
    final = [finding for finding in found if finding.is_final]  # what else was seen may only follow from these
    return list(dict.fromkeys(final or found))


def place_of(model: type[MILModel]) -> str:
    """ "my_model.py, line 12": where the class stands."""
    try:
        return f"{inspect.getsourcefile(model)}, line {inspect.getsourcelines(model)[1]}"
    except (OSError, TypeError):
        return model.__module__


def refuse_impossible_arguments(
    model: type[MILModel], in_features: int, n_outputs: int, hyperparameters: Mapping[str, Any]
) -> None:
    """Build the model without numbers in its weights, which costs nothing.

    Raises
    ------
    BrokenRule : it cannot be built so.
    """
    with warnings.catch_warnings(), without_numbers():
        warnings.simplefilter("ignore")
        _built_once(model, in_features, n_outputs, hyperparameters, 0)


def _built(
    model: type[MILModel], in_features: int, n_outputs: int, hyperparameters: Mapping[str, Any], seed: int
) -> MILModel:
    """The model, built twice: a seed must decide its weights."""
    first, second = (_built_once(model, in_features, n_outputs, hyperparameters, seed) for _ in range(2))
    for name, parameter in first.named_parameters():
        if parameter.isnan().any():
            raise BrokenRule(f"its {name} begins as NaN, so that it can learn nothing. Check how it is initialised")
    for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        if not torch.equal(one, other):
            raise BrokenRule(
                f"its {name} is another each time the model is built from one seed. "
                "Draw through torch's, NumPy's or Python's own generator, without a generator of your own"
            )
    return first


def _built_once(
    model: type[MILModel], in_features: int, n_outputs: int, hyperparameters: Mapping[str, Any], seed: int
) -> MILModel:
    try:
        built = build(model, in_features, n_outputs, hyperparameters, seed=seed)
    except (Exception, SystemExit) as error:
        raise BrokenRule(f"it cannot be built{_with(hyperparameters)}: {_told(error, model)}") from error
    for name, parameter in built.named_parameters():
        if parameter.numel() == 0:
            raise BrokenRule(
                f"its {name} holds no numbers: its shape is {list(parameter.shape)}{_with(hyperparameters)}"
            )
    _refuse_other_parameters(built)
    number: object = built.n_neighbours  # set by the model's own code, to anything
    if built.needs_coords and (not isinstance(number, Integral) or isinstance(number, bool) or number < 0):
        raise BrokenRule(
            f"its n_neighbours is {number!r}{_with(hyperparameters)}. Set self.n_neighbours to a whole number of patches, 0 or more"
        )
    return built


def _refuse_other_parameters(model: MILModel) -> None:
    """Raise unless forward, and attention_maps if the model defines it, take what `needs_coords` says."""
    given = ("features", "layout") if model.needs_coords else ("features",)
    own_maps = type(model).attention_maps is not MILModel.attention_maps
    for name in ("forward", "attention_maps") if own_maps else ("forward",):
        try:
            inspect.signature(getattr(model, name)).bind(*given)
        except TypeError as error:
            raise BrokenRule(
                f"its {name} is called as {name}({', '.join(given)}), which it cannot take: {error}. Change its parameters, or "
                f"needs_coords={not model.needs_coords} in @register_model"
            ) from error


def _with(hyperparameters: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'{key}={value}' for key, value in hyperparameters.items())}" if hyperparameters else ""


def _findings_of_built(model: MILModel, tasks: Sequence[str], seed: int) -> Iterator[Finding]:
    trained: set[str] = set()
    for n_patches in BAG_SIZES:
        try:
            trained |= _trained_by(model, tasks, _inputs(model, n_patches), seed)
        except BrokenRule as broken:
            yield broken.finding
            if broken.finding.is_final:
                return
    yield from _never_trained(model, trained)
    yield from _together(model)


def _trained_by(model: MILModel, tasks: Sequence[str], bag: Inputs, seed: int) -> set[str]:
    """Names of the parameters that get a gradient from a step on the bag, after all that one bag can show."""
    _refuse_other_answers(model, tasks, bag, seed)
    model.train()
    model.zero_grad(set_to_none=True)
    with _watched(model, bag), _seeded(seed):
        targets = torch.ones(model.n_tasks)
        loss = model.loss(_output(model, tasks, bag), targets, torch.ones_like(targets))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def _refuse_other_answers(model: MILModel, tasks: Sequence[str], bag: Inputs, seed: int) -> None:
    """Raise unless the model says twice the same from the same random numbers, in training and in evaluation."""
    for is_training in (False, True):
        model.train(is_training)
        logits = []
        for _ in range(2):
            with _watched(model, bag), _seeded(seed), torch.no_grad():
                logits.append(_output(model, tasks, bag).logits)
        if not torch.equal(*logits):
            raise BrokenRule(
                "its forward says something else of the same bag each time. It keeps state between calls, or draws from a "
                "generator that milbench does not seed"
            )


def _output(model: MILModel, tasks: Sequence[str], bag: Inputs) -> BagOutput:
    output = model(*bag)
    if not isinstance(output, BagOutput):
        raise BrokenRule(f"its forward returns a {type(output).__name__}. Return BagOutput(logits, attention, aux)")
    if tuple(output.logits.shape) != (int(model.outputs),):
        raise BrokenRule(
            f"its logits have shape {list(output.logits.shape)}. Return {_wanted(model.outputs, tasks)}. The constructor's "
            "n_outputs is their number"
        )
    if output.logits.isnan().any():
        none = " It gets no neighbours: set self.n_neighbours in __init__" if model.wanted_neighbours == 0 else ""
        n_patches = len(bag[0])
        raise BrokenRule(
            f"its logits are NaN on a bag of {n_patches} patch{'es' * (n_patches > 1)}.{none}".removesuffix("."),
            is_final=False,
        )
    return output


def _wanted(outputs: Outputs, tasks: Sequence[str]) -> str:
    """ "4 logits: one per class of subtype": how many logits there must be, and why."""
    number = f"{int(outputs)} logit{'s' * (int(outputs) > 1)}"
    if outputs.all_binary:
        return f"{number}: one per task"
    names = tasks or [f"task {place + 1}" for place in range(outputs.n_tasks)]
    if outputs.n_tasks == 1:
        return f"{number}: {_logits_are(outputs.endpoints[0])} {names[0]}"
    each = zip(outputs.endpoints, names, strict=True)
    return f"{number}: " + ", ".join(f"{_logits_are(task)} {name} ({task.width})" for task, name in each)


def _logits_are(task: FittedEndpoint) -> str:
    if task.loss == "corn":
        return "one per threshold between the grades of"
    if task.loss == "nll":
        return "one per time bin of"
    if task.loss == "ce":
        return "one per class of" if task.kind == "multiclass" else "one per grade of"
    return "one for"


@contextmanager
def _watched(model: MILModel, bag: Inputs) -> Iterator[None]:
    """Inside, the model may read the bag and its buffers, and raise nothing."""
    buffers = [(name, buffer, buffer._version) for name, buffer in model.named_buffers()]
    features, *layout = bag
    parts = {"features": features} | (layout[0]._asdict() if layout else {})
    versions = {name: tensor._version for name, tensor in parts.items()}
    try:
        yield
    except BrokenRule:
        raise
    except (Exception, SystemExit) as error:
        raise BrokenRule(
            f"it raises on a bag of {len(features)} patch{'es' * (len(features) > 1)}: {_told(error, type(model))}",
            is_final=False,
        ) from error
    for name, tensor in parts.items():
        if tensor._version != versions[name]:
            where = "the bag" if name == "features" else f"layout.{name} of the bag"
            place = name if name == "features" else f"layout.{name}"
            raise BrokenRule(
                f"its forward writes into {where}, which all models share. Write into a copy ({name} = {place}.clone())"
            )
    for name, buffer, before in buffers:
        if buffer._version != before:
            raise BrokenRule(
                f"it changes its buffer '{name}' as it runs, and a model keeps no state between bags. Use LayerNorm, or a "
                "BatchNorm with track_running_stats=False"
            )


def _never_trained(model: MILModel, trained: set[str]) -> Iterator[Finding]:
    wanted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained or not (missing := [name for name in wanted if name not in trained]):
        return
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    yield Finding(
        is_final=False, what=f"{shown} never get a gradient. Use them in forward, or set requires_grad to False"
    )


def _together(model: MILModel) -> Iterator[Finding]:
    """Whether bags of one size can go through the model together."""
    model.eval()
    together = [_inputs(model, BAG_SIZES[-1], start=start) for start in range(2)]
    try:
        with torch.no_grad():
            vmap(lambda *inputs: model(*inputs).logits, randomness="different")(*stacked(together))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model does
        yield Finding(
            is_final=False,
            what=f"two bags of one size cannot go through it together: {_told(error, type(model))}. A forward never branches "
            "on the values of tensors (if tensor, .item(), .tolist(), tensor[mask]). Slides with equal numbers of patches "
            "will fail",
        )


def _inputs(model: MILModel, n_patches: int, *, start: int = 0) -> Inputs:
    """What the model takes of a small bag."""
    generator = torch.Generator().manual_seed(start)
    return model.inputs(model.bag_like(torch.randn(n_patches, model.in_features, generator=generator)))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), generators_left_as_they_were():
        torch.manual_seed(seed)
        seed_global_generators(seed, 0)
        yield


def _told(error: BaseException, model: type[MILModel]) -> str:
    """The error in a line, with the last line of the model's own file that it passed."""
    first = (str(error).strip().splitlines() or [""])[0][:LONGEST_REASON]
    if "data-dependent control flow" in first:
        first = "it branches on the value of a tensor"
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    try:
        own = inspect.getsourcefile(model)
    except TypeError:
        own = None
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    return f"{text} ({Path(own).name}, line {lines[-1]})" if own and lines else text
