"""Headers: the small files of a run folder, each read through one shape that says what may stand in it.

Every reader of a run (run, status, report, heatmap, track, merge) reads them here. A run folder may come from
somebody else, and a crash or an editor may have left half of a file.

The shapes are written by hand. They need no import, so that `milbench status` stays quick. Their messages name the place in
one line. They take files of older versions, which lack keys.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from milbench.endpoints.endpoint import FEWEST_CLASSES, KINDS, WITH_CLASSES
from milbench.endpoints.fitted import LOSSES
from milbench.store.files import read
from milbench.store.plain_yaml import plain_yaml
from milbench.store.shape import (
    Shape,
    anything,
    fields,
    finite,
    flag,
    list_of,
    mapping_of,
    name,
    nullable,
    number,
    path,
    sha256,
    text,
    whole,
)
from milbench.store.slot import HIGHEST_FOLD, HIGHEST_SEED, id_parts, slot_parts

MOST_BYTES = 64_000_000
"""Of one JSON file; a plan of 300,000 trials has as many."""

MOST_YAML_BYTES = 1_000_000
"""Of run.yaml, which holds settings and no lists of trials. YAML takes seconds per megabyte."""

_FOLD, _SEED = whole(0, HIGHEST_FOLD), whole(-HIGHEST_SEED, HIGHEST_SEED)
_TEXTS, _SECTION = list_of(text), mapping_of(text, anything)


def _tasks(value: Any, where: str) -> None:
    _TEXTS(value, where)
    if not value or len(set(value)) < len(value):
        raise ValueError(f"{where} names no task, or one twice")


def _trial_id(value: Any, where: str) -> None:
    text(value, where)
    id_parts(value)


def _slot(value: Any, where: str) -> None:
    text(value, where)
    slot_parts(value)


def _time(value: Any, where: str) -> None:
    text(value, where)
    if not 1970 < datetime.fromisoformat(value).year < 3000:
        raise ValueError(f"{where} is {value}; expected a time since 1970")


def plan_shape(value: Any, where: str) -> None:
    """Trial ids by slot, each id that of its slot with the first digits of a key."""
    mapping_of(_slot, _trial_id)(value, where)
    for slot, trial_id in value.items():
        if trial_id.rpartition("-")[0] != slot:
            raise ValueError(f"{where} puts {trial_id} into the place of {slot}")


def fitted_endpoint(value: Any, where: str) -> None:
    """An endpoint as a trial learned it."""
    endpoint(value, where)
    fields(
        {"loss": text},
        {
            "edges": list_of(number),
            **dict.fromkeys(("alpha", "eps", "constant_loss"), number),
            **dict.fromkeys(("center", "scale"), finite),
        },
    )(value, where)
    if (sorted(set(value.get("edges", ()))) != list(value.get("edges", ()))) or value["loss"] not in LOSSES[
        value["kind"]
    ]:
        raise ValueError(f"{where} holds a loss that is none of its kind's, or edges that do not ascend")


def endpoint(value: Any, where: str) -> None:
    """What a task asks."""
    fields({"kind": text}, {"classes": _TEXTS, "transform": text})(value, where)
    kind, classes = value["kind"], value.get("classes", [])
    if kind not in KINDS:
        raise ValueError(f"{where}.kind is {ascii(kind)[:60]}; expected {', '.join(KINDS)}")
    if kind in WITH_CLASSES and (len(classes) < FEWEST_CLASSES or len(set(classes)) < len(classes)):
        raise ValueError(f"{where}.classes names fewer than {FEWEST_CLASSES} classes, or one twice")


CONFIG_SHAPE = fields(
    {},
    {
        **dict.fromkeys(("models", "datasets", "tasks"), nullable(_TEXTS)),
        **dict.fromkeys(("cohorts", "plugins"), nullable(list_of(path))),
        **dict.fromkeys(("data_root", "splits"), nullable(path)),
        **dict.fromkeys(("protocol", "precision", "run"), nullable(text)),
        **dict.fromkeys(("trainer", "model"), nullable(_SECTION)),
        **dict.fromkeys(("keep_weights", "allow_missing"), nullable(flag)),
        "folds": nullable(list_of(_FOLD)),
        "seeds": nullable(list_of(_SEED)),
        "engine": nullable(fields({}, {"shard": nullable(text)})),
        "tracking": nullable(fields({}, {"enabled": nullable(flag), "uri": nullable(text)})),
    },
)

ENVIRONMENT_SHAPE = fields(
    {},
    {
        "run_format": whole(0, 10**6),
        "milbench": text,
        "git": nullable(text),
        "packages": mapping_of(text, text),
        **dict.fromkeys(("python", "platform", "cpu"), text),
        "cores": nullable(number),
        "gpus": _TEXTS,
    },
)


def _scale(value: Any, where: str) -> None:
    text(value, where)
    if value and not 0 < float(value) < float("inf"):
        raise ValueError(f"{where} is {value[:60]}; expected a number above 0")


_FEATURES = fields(
    {},
    {
        **dict.fromkeys(("mpp", "magnification"), mapping_of(_scale, number)),
        **dict.fromkeys(
            ("encoder", "weights_sha256", "patch_size", "transform", "width", "dtype"), mapping_of(text, number)
        ),
    },
)
"""Of `milbench.store.feature_facts`."""

DATASETS_SHAPE = mapping_of(
    name,
    fields(
        {
            **dict.fromkeys(("title", "split_sha256", "splits", "scaling"), text),
            **dict.fromkeys(("models", "tasks"), _TEXTS),
            **dict.fromkeys(("model_defaults", "trainer_defaults"), _SECTION),
            **dict.fromkeys(("n_slides", "n_patients"), number),
        },
        {
            **dict.fromkeys(("fingerprint", "licence"), text),
            **dict.fromkeys(("control_tasks", "notes"), _TEXTS),
            "positives": mapping_of(text, number),
            "endpoints": mapping_of(text, endpoint),
            "bag": text,
            "slides_of": mapping_of(text, _TEXTS),
            "in_features": whole(1, 10**7),
            "features": _FEATURES,
            "test_side_differs": flag,
            "sharing": mapping_of(text, fields({"what": text, "step": number, "after": _TEXTS})),
            "tuned": fields({"configurations": whole(1, 10**6), "command": text, "made": text}, {"models": _TEXTS}),
        },
    ),
)

_QUESTION = fields(
    {"fingerprint": text, "split_sha256": text, "feature_scaling": text},
    {
        "labels_sha256": text,
        "optional_labels_sha256": mapping_of(text, text),
        "models": mapping_of(text, fields({}, {"recipe": _SECTION, "hyperparameters": _SECTION})),
    },
)
QUESTIONS_SHAPE = mapping_of(name, fields({"now": _QUESTION, "former": list_of(_QUESTION)}))

FAILURE_SHAPE = fields(
    {"id": _trial_id, "type": text, "message": text},
    {"traceback": text, "identity": _SECTION, "finished_at": text},
)

CLAIM_SHAPE = fields({"key": text, "host": text, "pid": whole(1, 2**31), "born": number, "since": number})

SHARD_SHAPE = fields(
    {"number": whole(1, 10**6), "count": whole(1, 10**6), "plan": plan_shape, "mine": list_of(_slot)},
)

RECORD_SHAPE = fields(
    {
        "key": sha256,
        "dataset": name,
        **dict.fromkeys(("model", "model_title", "fingerprint", "split_sha256", "protocol"), text),
        "tasks": _tasks,
        "fold": _FOLD,
        "seed": _SEED,
        "hyperparameters": _SECTION,
        "recipe": fields({"epochs": number}),
        **dict.fromkeys(("n_parameters", "train_seconds", "wall_seconds", "peak_bytes"), number),
        "finished_at": _time,
        "payload_sha256": mapping_of(name, sha256),
    },
    {
        **dict.fromkeys(("id", "feature_scaling", "model_tasks", "precision", "source_sha256", "device", "host"), text),
        **dict.fromkeys(("load_seconds", "n_epochs", "chosen_epoch", "threads", "stack"), number),
        "n_slides": mapping_of(text, number),
        "endpoints": list_of(fitted_endpoint),
        "labels_sha256": mapping_of(text, sha256),
        "training_risk": mapping_of(text, mapping_of(text, finite)),
        "weights": mapping_of(text, text),
        "cost": nullable(mapping_of(text, nullable(number))),
    },
)
"""Of trial.json."""


def read_json(file: Path, shape: Shape) -> Any:
    """The value in a JSON file of a run.

    Raises
    ------
    StoreError : the file cannot be read, or holds anything else than the shape takes.
    """

    def parsed(content: str) -> Any:
        value = json.loads(content, parse_constant=_refuse_constant)
        shape(value, file.stem)
        return value

    return read(file, parsed, MOST_BYTES)


def read_config(file: Path) -> dict[str, Any]:
    """The settings in a run.yaml; keys without a value are left out.

    Raises
    ------
    StoreError : the file cannot be read, or holds anything else than settings.
    """

    def parsed(content: str) -> dict[str, Any]:
        value = plain_yaml(content)
        CONFIG_SHAPE(value, file.stem)
        return {key: inner for key, inner in value.items() if inner is not None}

    return dict(read(file, parsed, MOST_YAML_BYTES))


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
