"""Layout: the files of an export, and what `model.json` must hold to be loaded.

::

    FOLDER/
      model.json                  all that turns features into answers, and where the numbers come from
      README.md                   model card
      model.safetensors           weights of a single training
      fold0-seed42.safetensors    weights of an ensemble: one file per training, of fold and seed
      model.onnx                  where the model allows it
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milbench.errors import StoreError
from milbench.special_files import refuse_special
from milbench.store.headers import fitted_endpoint
from milbench.store.shape import anything, fields, finite, list_of, mapping_of, name, sha256, text, whole
from milbench.store.slot import HIGHEST_SEED

FACTS, CARD, ONNX, WEIGHTS = "model.json", "README.md", "model.onnx", "model.safetensors"

EXPORT_FORMAT = 1
"""Version of the layout, raised when an older milbench could misread a folder."""

MOST_BYTES = 256_000_000
"""Of model.json: scalers of a thousand trainings on features 4,000 wide."""

NUMBER = 2**53
"""Above any width, seed or count."""

RISK = fields(dict.fromkeys(("mean", "sd", "median"), finite))
TASK = fields({"logits": list_of(whole(0, NUMBER)), "endpoint": fitted_endpoint}, {"training_risk": RISK})
TRAINING = fields({
    "name": name, "weights": name, "sha256": sha256, "seed": whole(-HIGHEST_SEED, HIGHEST_SEED),
    "scaler": fields({"mode": text}, {"offset": list_of(finite), "scale": list_of(finite)}),
    "tasks": mapping_of(text, TASK),
})  # fmt: skip
MODEL = fields({
    "name": text, "version": whole(0, NUMBER), "milbench": text, "in_features": whole(1, NUMBER),
    "arguments": mapping_of(text, anything),
})  # fmt: skip
SHAPE = fields(
    {
        "format": whole(1, NUMBER),
        "model": MODEL,
        "tasks": list_of(text),
        "combined": anything,
        "trainings": list_of(TRAINING),
    }
)
"""Of model.json, as far as a model is built from it."""


def read_facts(folder: Path) -> dict[str, Any]:
    """What `model.json` of an export holds.

    Raises
    ------
    StoreError : there is no export in the folder, one of a newer milbench, or a damaged one.
    """
    path = folder / FACTS
    refuse_special(path, StoreError)
    if not path.is_file():
        raise StoreError(
            f"{folder} holds no exported model ({FACTS} is missing). Name a folder that `milbench export` wrote."
        )
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        facts = json.loads(path.read_text(encoding="utf-8"))
        fields({"format": whole(1, NUMBER)})(facts, path.stem)
        _refuse_newer(facts, folder)
        SHAPE(facts, path.stem)
        _refuse_strangers(facts)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}. Check the file and its rights.") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}). Export the model again.") from error
    return dict(facts)


def _refuse_newer(facts: Mapping[str, Any], folder: Path) -> None:
    if facts["format"] > EXPORT_FORMAT:
        raise StoreError(
            f"{folder} was written by a newer milbench, whose exports this version cannot read. Update milbench."
        )


def _refuse_strangers(facts: Mapping[str, Any]) -> None:
    """ValueError if a training does not answer the tasks of the model, or there is none."""
    if not facts["trainings"]:
        raise ValueError("it has no training")
    if not facts["combined"] and len(facts["trainings"]) > 1:
        raise ValueError("it does not say how its trainings become one answer")
    for training in facts["trainings"]:
        if set(training["tasks"]) != set(facts["tasks"]) or not training["tasks"]:
            raise ValueError(f"training {training['name']} answers other tasks than the model")
        if any(len(told["logits"]) != 2 for told in training["tasks"].values()):
            raise ValueError(f"training {training['name']} does not say where a task's logits begin and end")


def facts_bytes(facts: Mapping[str, Any]) -> bytes:
    """The text of model.json: keys in the order of reading, a list of numbers in one line."""
    written = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    # inside a text no line ends, so only lists are met here
    return (re.sub(r"\[\n\s+([-+.\deE,\s]+?)\n\s+\]", _in_one_line, written) + "\n").encode()


def _in_one_line(found: re.Match[str]) -> str:
    return f"[{', '.join(part.strip() for part in found[1].split(','))}]"
