"""Exported: a folder of `milbench export`, loaded again without the run that it comes from.

::

    model = milbench.load_exported("exports/digits/amil-has_0-ensemble")
    model.answers(features)               # {"has_0": {"probability": ...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from milbench.cohorts.scaling import FITTED_MODES, MODES, FeatureScaler
from milbench.endpoints.answers import answers_of
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import CheckpointError, StoreError, UsageError, unknown_name
from milbench.export.layout import FACTS, read_facts
from milbench.heatmap.trained import TrainedModel, built_with
from milbench.layout import Layout
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.runs.ensemble import Ensemble
from milbench.special_files import refuse_special

AGAIN = "Export the model again, or copy the whole folder again."


class ExportedModel(nn.Module):
    """A model in eval mode that takes one bag of features as they lie on disk: a training, or an ensemble of trainings.

    Attributes
    ----------
    trainings : each with its weights and the scaling of its training.
    facts : what `model.json` holds: metrics, thresholds, cohort, versions.
    tasks : that it answers, the leading one first.
    """

    def __init__(self, trainings: Sequence[TrainedModel], facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.trainings = nn.ModuleList(trainings)
        self.facts = facts
        self.tasks: tuple[str, ...] = tuple(facts["tasks"])
        self.eval()

    def __repr__(self) -> str:
        number = len(self.trainings)
        return f"ExportedModel({self.facts['model']['name']} on {', '.join(self.tasks)}, {number} training{'s' * (number > 1)})"

    @property
    def _models(self) -> list[TrainedModel]:
        return cast("list[TrainedModel]", list(self.trainings))

    def forward(self, features: Tensor, layout: Layout | None = None) -> tuple[Tensor, ...]:
        """Logits [W] of each training, of one bag [N, D] as stored on disk.

        A model that needs coordinates takes the bag's layout too: `milbench.layout.layout_of` makes it.
        """
        return tuple(model(features, layout).logits for model in self._models)

    def answers(self, features: Tensor, layout: Layout | None = None) -> dict[str, dict[str, float]]:
        """Answers by task and name, of one bag [N, D] as stored on disk; "probability" of a binary task.

        An ensemble answers as the ensemble of the report does (`milbench.runs.ensemble.Ensemble`).
        """
        with torch.no_grad():
            logits = self(features, layout)
        if not self.facts.get("combined"):
            return {task: self._own(task, logits[0]) for task in self.tasks}
        rows = [model.answers_of(each) for model, each in zip(self._models, logits, strict=True)]
        together = [Ensemble(self._models, task) for task in self.tasks]
        return {each.task: _named(each.names, each.answers_of(rows)) for each in together}

    def _own(self, task: str, logits: Tensor) -> dict[str, float]:
        """Answers of a model that is alone: all that the run stores of a slide."""
        model = self._models[0]
        place = model.tasks.index(task)
        fitted, own = model.outputs.endpoints[place], model.outputs.slices[place]
        return _named(fitted.answers, answers_of(fitted, logits[own].cpu().numpy()[None])[0])


def _named(names: Sequence[str], values: Any) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))


def load_exported(path: str | PathLike[str], *, plugins: Sequence[str | PathLike[str]] = ()) -> ExportedModel:
    """The model that `milbench export` wrote to a folder; its weights have the checksums that `model.json` says.

    Parameters
    ----------
    plugins : Python files that register the model, if it is neither milbench's nor an installed package's.

    Raises
    ------
    StoreError : there is no export, a file is missing or is not the one that was exported, or the model has changed since.
    UsageError : the model is not registered.
    """
    folder = Path(path)
    facts = read_facts(folder)
    model = _known(facts["model"], load_models([Path(plugin) for plugin in plugins]), folder)
    return ExportedModel([_training(folder, facts, model, each) for each in facts["trainings"]], facts)


def _known(told: Mapping[str, Any], known: Mapping[str, type[MILModel]], folder: Path) -> type[MILModel]:
    name = told["name"]
    if name not in known:
        hint = "If it is a model of yours, say where its file is: load_exported(folder, plugins=['my_model.py'])."
        raise UsageError(f"{unknown_name('model', name, known)} {hint}")
    version = known[name].info.version
    if version != told["version"]:
        raise StoreError(
            f"{folder} was exported of version {told['version']} of {name}; this milbench has version {version}, which answers "
            f"otherwise. Install milbench {told['milbench']}, or export the model anew."
        )
    return known[name]


def _training(folder: Path, facts: Mapping[str, Any], model: type[MILModel], told: Mapping[str, Any]) -> TrainedModel:
    tasks = told["tasks"]
    in_order = sorted(tasks, key=lambda task: tasks[task]["logits"][0])
    outputs = Outputs([FittedEndpoint.from_dict(tasks[task]["endpoint"]) for task in in_order])
    weights, width = _weights(folder / told["weights"], told["sha256"]), facts["model"]["in_features"]
    try:
        built = built_with(weights, model, width, outputs, facts["model"]["arguments"], seed=told["seed"])
    except CheckpointError as error:
        raise StoreError(
            f"{folder / told['weights']}: these weights are not those of the model '{facts['model']['name']}' as it is now "
            f"({error}). Use the model's code of that time."
        ) from error
    risk = {task: tasks[task]["training_risk"] for task in in_order if "training_risk" in tasks[task]}
    return TrainedModel(told["name"], built, in_order, outputs, _scaler(folder, told["scaler"], width), risk)


def _weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Weights of a file, which is read once: what was hashed is what is used."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    refuse_special(path, StoreError)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}). {AGAIN}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(
            f"{path} has another checksum than {FACTS} says: these are not the weights of the export. {AGAIN}"
        )
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise StoreError(f"{path} holds no weights ({error}). {AGAIN}") from error


def _scaler(folder: Path, told: Mapping[str, Any], width: int) -> FeatureScaler:
    if told["mode"] not in MODES:
        raise unknown_name(f"feature scaling in {folder / FACTS}", told["mode"], MODES)
    scaler = FeatureScaler(told["mode"])
    if scaler.mode in FITTED_MODES:
        scaler.offset, scaler.scale = (
            torch.tensor(told.get(key, ()), dtype=torch.float32) for key in ("offset", "scale")
        )
        if scaler.offset.shape != (width,) or scaler.scale.shape != (width,):
            raise StoreError(
                f"{folder / FACTS} is damaged: the scaler of {len(scaler.offset)} and {len(scaler.scale)} columns; expected {width}. {AGAIN}"
            )
    return scaler
