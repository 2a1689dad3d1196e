"""Official checkpoints: sizes are read from their tensors, and their names are mapped to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from milbench.endpoints.endpoint import FEWEST_CLASSES, Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError
from milbench.models import MILModel

Model = TypeVar("Model", bound=MILModel)


def shape_of(state_dict: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Shape of the official tensor `name`.

    Raises
    ------
    CheckpointError : there is no such tensor.
    """
    if name not in state_dict:
        raise CheckpointError(
            f"the checkpoint has no tensor '{name}'. Its tensors: {', '.join(sorted(state_dict)) or 'none'}. "
            "Give the state dict of the official model."
        )
    return tuple(state_dict[name].shape)


def outputs_of_classes(*counts: int) -> Outputs:
    """Outputs of tasks with so many classes each: two are a binary task, with one logit; more are named by their places."""
    return Outputs([_of_classes(count) for count in counts])


def _of_classes(count: int) -> FittedEndpoint:
    if count < FEWEST_CLASSES:
        return FittedEndpoint()
    names = tuple(f"class {place}" for place in range(count))
    return FittedEndpoint(Endpoint("multiclass", names), loss="ce")


def load_official(model: Model, state_dict: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Model:
    """`model` in eval mode, holding the tensors of an official `state_dict`.

    Parameters
    ----------
    prefixes : our name of every official name or dotted prefix, e.g. ``{"i_classifier.fc.0": "score"}``.

    Raises
    ------
    CheckpointError : a tensor is missing, left over or of another shape.
    """
    found = {_own_name(name, prefixes): name for name in state_dict}
    wanted = model.state_dict()
    faults = [f"left over: '{name}'" for own, name in found.items() if own not in wanted]
    for own, tensor in wanted.items():
        if own not in found:
            faults.append(f"missing: the tensor for '{own}'")
        elif state_dict[found[own]].shape != tensor.shape:
            shape = tuple(state_dict[found[own]].shape)
            faults.append(f"'{found[own]}' has shape {shape}, expected {tuple(tensor.shape)}")
    if faults:
        raise CheckpointError(
            f"the checkpoint does not fit {type(model).__name__}: {'; '.join(faults)}. "
            "Check that the checkpoint belongs to this model and that the options are those of its training."
        )
    model.load_state_dict({own: state_dict[name] for own, name in found.items()})
    return model.eval()


def _own_name(name: str, prefixes: Mapping[str, str]) -> str:
    """Our name of the official tensor `name`. If no prefix fits, a name that no model has."""
    for official, own in prefixes.items():
        if name == official or name.startswith(official + "."):
            return own + name.removeprefix(official)
    return f"official:{name}"
