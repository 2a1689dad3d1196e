"""Checkpoint: one safetensors file from which a learner goes on after an epoch and ends with the same bits.

Tensors are stored as they are. Histories and the state of each trial are JSON in the file's header. A file appears by
one rename. A damaged file, or one of another stack or machine setting, counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from milbench.formats.tensor_file import write_tensors
from milbench.store.files import replacing_file
from milbench.training.learner import Learner
from milbench.training.selection import TrialProgress

FORMAT = 1

OF_STEP_MEMORY = ("at_once", "must_recompute", "shortage")
"""Attributes of the learner's step memory that the file keeps under the same names."""


def save_checkpoint(learner: Learner, path: Path, identity: str) -> None:
    """Write the learner's state after an epoch.

    Parameters
    ----------
    identity : of trials, machine and settings; only a learner of the same identity may go on from the file.

    Raises
    ------
    OSError : the disk is full or the folder cannot be written.
    """
    _write(path, {"format": FORMAT, "identity": identity, **_state(learner)}, _tensors(learner))


def load_checkpoint(learner: Learner, path: Path, identity: str) -> bool:
    """Whether `learner`, which has just started, now stands where the checkpoint was written."""
    state, tensors = _read(path, identity, learner.device)
    if state is None or not _fits(learner, tensors):
        return False
    _restore(learner, state, tensors)
    return True


def save_fold_stack(learners: Sequence[Learner], path: Path, identity: str) -> None:
    """Write the state of learners that take their steps together into one file, so that all go on from the same epoch.

    Raises as `save_checkpoint`.
    """
    states = [_state(learner) for learner in learners]
    tensors = {
        f"{place}/{name}": tensor
        for place, learner in enumerate(learners)
        for name, tensor in _tensors(learner).items()
    }
    _write(path, {"format": FORMAT, "identity": identity, "learners": states}, tensors)


def load_fold_stack(learners: Sequence[Learner], path: Path, identity: str) -> bool:
    """Whether all `learners`, which have just started, now stand where the checkpoint was written; else none does."""
    state, tensors = _read(path, identity, learners[0].device)
    if state is None or len(state.get("learners", ())) != len(learners):
        return False
    own = [_of_place(tensors, place) for place in range(len(learners))]
    if not all(map(_fits, learners, own)):
        return False
    for each in zip(learners, state["learners"], own, strict=True):
        _restore(*each)
    return True


def _of_place(tensors: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """Tensors of the learner of this number."""
    start = f"{place}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _write(path: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary:
        write_tensors(temporary, tensors, {"state": json.dumps(state)})


def _read(path: Path, identity: str, device: torch.device) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """State and tensors of a checkpoint; without a state if it is damaged or of another identity."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None, {}
    return (state if (state.get("format"), state.get("identity")) == (FORMAT, identity) else None), tensors


def _state(learner: Learner) -> dict[str, Any]:
    """What is plain about a learner."""
    return {
        "epoch": learner.epoch,
        "alive": learner.still_learning,
        "members": [progress.as_dict() for progress in learner.progress],
        "seconds": learner.seconds,
        "step_seconds": learner.step_seconds,
        **{name: getattr(learner.step_memory, name) for name in OF_STEP_MEMORY},
    }


def _fits(learner: Learner, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the file's weights have the learner's names and shapes: a model may be built from more files than its own."""
    best = {name.removeprefix("best/"): t.shape for name, t in tensors.items() if name.startswith("best/")}
    return best == {name: values.shape for name, values in learner.best.items()}


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """Weights, best weights, optimiser and generators, by name."""
    named = learner.moved_parameters()
    tensors = {f"now/{name}": p.detach() for name, p in named.items()}
    tensors |= {f"best/{name}": values for name, values in learner.best.items()}
    tensors |= {f"random/{i}": state for i, state in enumerate(learner.random.states)}
    for name, p in named.items():
        for key, value in learner.optimizer.state.get(p, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
    return tensors


def _restore(learner: Learner, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    if state["alive"] and len(state["alive"]) < len(learner.still_learning):
        learner.shrink_to(state["alive"])  # in a learner that has just started, a trial's number is its row
    learner.still_learning = list(state["alive"])
    learner.progress = [TrialProgress.from_dict(values) for values in state["members"]]
    for name in ("epoch", "seconds", "step_seconds"):
        setattr(learner, name, state[name])
    learner.random.uses = learner.epoch * learner.steps_per_epoch  # one use per step
    for name in OF_STEP_MEMORY:
        setattr(learner.step_memory, name, state[name])
    for name, values in learner.best.items():
        values.copy_(tensors[f"best/{name}"])
    learner.random.states = [tensors[f"random/{i}"].cpu() for i in range(len(learner.random.states))]
    if not learner.still_learning:  # done: its last weights belong to other trials and are not needed
        return
    with torch.no_grad():
        for name, p in learner.moved_parameters().items():
            p.copy_(tensors[f"now/{name}"])
            learner.optimizer.state[p] = _optimizer_state(learner, name, tensors)


def _optimizer_state(learner: Learner, name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    split = {key: key.split("/", 2) for key in tensors if key.startswith("optimizer/")}
    state = {parts[1]: tensors[key] for key, parts in split.items() if parts[2] == name}
    if "step" in state and not learner.optimizer.defaults.get("fused"):  # only a fused step counts on the GPU
        state["step"] = state["step"].cpu()
    return state
