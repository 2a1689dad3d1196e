"""Facts: what `model.json` says, so that features become answers without milbench, and numbers have a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import milbench
from milbench.cohorts.bag_names import PATIENT, SLIDE
from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.fitted import FittedEndpoint
from milbench.errors import MilbenchError
from milbench.export.chosen import Chosen, training_name
from milbench.export.layout import EXPORT_FORMAT, WEIGHTS
from milbench.external.checks import HEADERS, headers
from milbench.external.thresholds import binary_thresholds, risk_threshold
from milbench.heatmap.stored import StoredModel
from milbench.runs.ensemble import STANDARDISED_RISK
from milbench.store.trial import WEIGHTS as STORED_WEIGHTS
from milbench.store.trial import StoredTrial

FORMULA: Mapping[str, str] = {
    "none": "features",
    "l2": "features / max(length of each row, 1e-12)",
    "standard": "(features - offset) * scale",
    "minmax": "(features - offset) * scale",
}
"""How the columns of float32 features [N, D] are scaled, by mode."""

FROM_ABOVE = (
    "at_least = [1, *above, 0]; probability of grade k = at_least[k] - at_least[k + 1], k from 0; "
    "expected grade = sum of k * probability of grade k"
)
TO_ANSWERS: Mapping[tuple[str, str], str] = {
    ("binary", "bce"): "probability = 1 / (1 + exp(-z[0]))",
    ("multiclass", "ce"): "probability of class k = exp(z[k]) / sum(exp(z))",
    ("ordinal", "corn"): f"above = cumprod(1 / (1 + exp(-z))); {FROM_ABOVE}",
    ("ordinal", "l1"): f"above[k] = min(max(z[0] - k, 0), 1) of all grades but the last; {FROM_ABOVE}",
    ("ordinal", "ce"): "probability of grade k = exp(z[k]) / sum(exp(z)), k from 0; expected grade = sum of k * probability of grade k",
    ("survival", "nll"): "survival = cumprod(1 / (1 + exp(z))); risk = -sum(survival); survival[k] is that at edges[k], in days",
    ("survival", "cox"): "risk = z[0]",
}  # fmt: skip
"""Answers of a task's logits z, by kind and loss; those of regression follow from its transform."""

BAG: Mapping[str, str] = {
    SLIDE: "all of one slide",
    PATIENT: "all of one patient's slides, joined in the order of the slides' ids",
}
"""Patches that one answer is about, by what a bag is."""

OUTPUTS = "Outputs([FittedEndpoint.from_dict(endpoint) of each task, in the order of their logits])"
"""What a constructor takes if a task is not binary (milbench.endpoints)."""

COMBINED: Mapping[str, str] = {
    "binary": "probability = 1 / (1 + exp(-m)); m = mean over trainings of z[0], each clipped to -16.1 .. 16.1",
    "multiclass": "probability of class k = mean over trainings",
    "ordinal": "expected grade = mean over trainings",
    "regression": "value = mean over trainings",
    "survival": f"{STANDARDISED_RISK} = mean over trainings of (risk - mean) / sd of training_risk; sd 0 counts as 1",
}
"""One answer of several trainings, by kind."""


def facts_of(
    chosen: Chosen, models: Sequence[StoredModel], scores: Mapping[str, Any], weights: Mapping[str, str]
) -> dict[str, Any]:
    """What `model.json` holds, except what it says of the ONNX file, as plain values in the order of reading.

    Parameters
    ----------
    scores : of `scores_of`.
    weights : checksum of each training's file by the file's name, in the order of `models`.
    """
    trial = chosen.trials[0]
    return {
        "format": EXPORT_FORMAT,
        "model": _model(trial, models[0]),
        "tasks": list(chosen.tasks),
        "input": {
            "features": f"float32 [patches, {models[0].model.in_features}], not scaled: at least one patch, {BAG[chosen.source.bag]}",
            "bag": chosen.source.bag,
            "order_of_patches_matters": models[0].model.info.order_matters,
            **_places(models[0]),
            **_extraction(chosen),
        },
        "trainings": [
            _training(model, name, digest) for model, (name, digest) in zip(models, weights.items(), strict=True)
        ],
        "combined": {task: COMBINED[models[0].endpoint_of[task].kind] for task in chosen.tasks}
        if chosen.is_ensemble
        else None,
        "thresholds": {task: found for task in chosen.tasks if (found := _thresholds(chosen, task))},
        "scores": {task: scores[task] for task in chosen.tasks},
        "cohort": _cohort(chosen),
        "training": {name: trial.info.get(name) for name in ("protocol", "precision", "recipe", "selected_by")},
        "versions": _versions(chosen),
    }


def _places(model: StoredModel) -> dict[str, Any]:
    """Number of nearest patches in the layout that the model takes too; nothing if it takes features alone."""
    wanted = model.model.wanted_neighbours
    return {} if wanted is None else {"neighbours_in_layout": int(wanted)}


def _model(trial: StoredTrial, model: StoredModel) -> dict[str, Any]:
    info, arguments = model.model.info, dict(trial.info["hyperparameters"])
    width, n_outputs = model.model.in_features, int(model.outputs)
    outputs = str(n_outputs) if model.outputs.all_binary else OUTPUTS
    words = ", ".join([str(width), outputs, *(f"{name}={value!r}" for name, value in arguments.items())])
    return {
        "name": info.name,
        "title": info.title,
        "version": info.version,
        "milbench": milbench.__version__,
        "class": f"{type(model.model).__module__}.{type(model.model).__qualname__}",
        "constructor": f"{type(model.model).__name__}({words})",
        "in_features": width,
        "n_outputs": n_outputs,
        "arguments": arguments,
        "n_parameters": sum(weight.numel() for weight in model.model.parameters()),
        "paper": info.paper,
        "official_code": info.official,
    }


def _extraction(chosen: Chosen) -> dict[str, Any]:
    """Encoder, magnification, mpp, normalisation and patches, as far as the cohort's files are there and tell; None = unknown."""
    try:
        training = chosen.source.training
        known = training is not None and training.cohort.fingerprint == chosen.trials[0].info["fingerprint"]
        of_slides = training.cohort.by_slide if training and known else None
        found = headers(of_slides, list(of_slides.slides["slide_id"])[:HEADERS]) if of_slides else {}
    except MilbenchError:  # the weights are there, and the files need not be
        found = {}
    told: dict[str, set[Any]] = {
        "encoder": {header.encoder for header in found.values()} - {""},
        "encoder_weights_sha256": {header.weights_sha256 for header in found.values()} - {""},
        "magnification": {header.magnification for header in found.values()} - {None},
        "mpp": {header.mpp for header in found.values()} - {None},
        "normalisation": {header.transform for header in found.values()} - {""},
        "patch_size": {header.patch_size for header in found.values()} - {None},
        "patch_size_unit": {header.unit for header in found.values() if header.patch_size is not None} - {""},
    }
    return {name: next(iter(values)) if len(values) == 1 else None for name, values in told.items()}


def _training(model: StoredModel, weights: str, sha256: str) -> dict[str, Any]:
    info = model.trial.info
    return {
        "name": training_name(model.trial),
        "weights": weights,
        "sha256": sha256,
        "trial": model.trial.id,
        "fold": info["fold"],
        "seed": info["seed"],
        "chosen_epoch": info["chosen_epoch"],
        "n_epochs": info["n_epochs"],
        "n_slides": info.get("n_slides"),
        "scaler": _scaler(model.scaler),
        "tasks": {
            task: _task(fitted, [place.start, place.stop], model.training_risk.get(task))
            for task, fitted, place in zip(model.tasks, model.outputs.endpoints, model.outputs.slices, strict=True)
        },
    }


def _scaler(scaler: FeatureScaler) -> dict[str, Any]:
    values = {"offset": scaler.offset, "scale": scaler.scale}
    fitted = {name: tensor.tolist() for name, tensor in values.items() if tensor is not None}
    return {"mode": scaler.mode, "formula": FORMULA[scaler.mode], **fitted}


def _task(fitted: FittedEndpoint, logits: list[int], risk: Mapping[str, float] | None) -> dict[str, Any]:
    return {
        "kind": fitted.kind,
        "logits": logits,
        "answers": list(fitted.answers),
        "to_answers": _to_answers(fitted),
        "endpoint": fitted.as_dict(),
        **({"training_risk": dict(risk)} if risk else {}),
    }


def _to_answers(fitted: FittedEndpoint) -> str:
    if fitted.kind != "regression":
        return TO_ANSWERS[fitted.kind, fitted.loss]
    linear = "z[0] * scale + center"
    return f"value = {linear}" if fitted.endpoint.transform == "none" else f"value = exp({linear}) - 1"


def _thresholds(chosen: Chosen, task: str) -> dict[str, Any]:
    """Where a call is made, chosen without the test side; empty if the kind has no threshold."""
    kind = chosen.trials[0].endpoint_of[task].kind
    if kind == "binary":
        both = {level: binary_thresholds(chosen.trials, task, level) for level in chosen.levels}
        found = {level: at.of_ensemble if chosen.is_ensemble else at.of_folds for level, at in both.items()}
        told = {level: None if isnan(at) else at for level, at in found.items()}
        return {
            "of": "probability",
            **told,
            "chosen_by": "largest sensitivity + specificity on validation sides (Youden)",
        }
    if kind != "survival" or any(task not in trial.info.get("training_risk", {}) for trial in chosen.trials):
        return {}
    by = "median risk of the training patients"
    if chosen.is_ensemble:
        return {"of": STANDARDISED_RISK, "patient": risk_threshold(chosen.trials, task).of_ensemble, "chosen_by": by}
    return {"of": "risk", "patient": chosen.trials[0].info["training_risk"][task]["median"], "chosen_by": by}


def _cohort(chosen: Chosen) -> dict[str, Any]:
    info, facts = chosen.trials[0].info, chosen.run.datasets[chosen.source.dataset]
    return {
        "name": chosen.source.dataset,
        "title": facts["title"],
        **({"licence": facts["licence"]} if facts.get("licence") else {}),
        "n_slides": facts["n_slides"],
        "n_patients": facts["n_patients"],
        "fingerprint": info["fingerprint"],
        "labels_sha256": info.get("labels_sha256", {}),
        "split": facts["splits"],
        "split_sha256": info["split_sha256"],
        "folds_share_the_test_side": not facts.get("test_side_differs", False),
        "run": chosen.run.name,
        "n_trainings_finished": len(chosen.finished),
        "n_trainings_planned": chosen.n_planned,
    }


def _versions(chosen: Chosen) -> dict[str, Any]:
    import torch

    environment = chosen.run.environment
    return {
        "exported_with": {"milbench": milbench.__version__, "torch": torch.__version__},
        "trained_with": {
            "milbench": environment.get("milbench"),
            "torch": chosen.trials[0].info.get("torch"),
            "python": environment.get("python"),
            "commit": environment.get("git"),
        },
    }


def weight_files(chosen: Chosen) -> dict[str, StoredTrial]:
    """Trials by the name that their weights have in the export."""
    if not chosen.is_ensemble:
        return {WEIGHTS: chosen.trials[0]}
    return {f"{training_name(trial)}.safetensors": trial for trial in chosen.trials}


def stored_sha256(trial: StoredTrial) -> str:
    """Checksum of the trial's weights."""
    return str(trial.info["payload_sha256"][STORED_WEIGHTS])
