"""Declared: what a `features.json` beside feature files, or a cohort.yaml, says of files that do not tell it themselves.

`milbench features` writes the settings of a folder into its `features.json`. A user may write one for the files of another tool:

    {"encoder": "uni_v1", "mpp": 0.5, "normalisation": "mean and sd of ImageNet"}

`magnification` and `weights_sha256` are read too. Other keys may hold anything. What a file says of itself goes first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from milbench.formats.scale import is_one_scale
from milbench.special_files import special_kind
from milbench.visible import shortened

if TYPE_CHECKING:
    from milbench.formats import SlideHeader

FEATURES_JSON = "features.json"
MOST_BYTES = 1_000_000
"""Of a file of settings, which has some hundred; beyond, it is none."""

NUMBERS = ("mpp", "magnification")
MOST = 1e6
"""Of such a number: beyond, it means nothing, and whole numbers of JSON may be too large for any float."""

LONGEST_SHOWN = 200
"""Letters of a value in a message: a transform may be a text of any length."""

TRANSFORMS = ("transform", "normalisation", "normalization")
"""Keys of features.json, the first that is there counts."""


RANDOM = "RANDOM"
"""How what is told of an encoder's weights begins if nobody trained them."""


class DeclaredFacts(NamedTuple):
    """What is declared of all files of a folder; empty or None where nothing is.

    Attributes
    ----------
    encoder, mpp, magnification, weights_sha256, transform : as in `milbench.formats.SlideHeader`.
    source : what declares it, such as a path.
    problem : why something of it cannot be used; empty otherwise.
    """

    encoder: str = ""
    mpp: float | None = None
    magnification: float | None = None
    weights_sha256: str = ""
    transform: str = ""
    source: str = ""
    problem: str = ""


NOTHING = DeclaredFacts()

WORDS: Mapping[str, str] = {
    "encoder": "encoder",
    "mpp": "mpp",
    "magnification": "magnification",
    "weights_sha256": "hash of the encoder's weights",
    "transform": "normalisation",
}
"""How messages call what may be declared."""


def declared_beside(folder: Path) -> DeclaredFacts:
    """What the `features.json` in a folder declares; nothing if there is none."""
    path = folder / FEATURES_JSON
    if not path.is_file():
        return NOTHING
    told = json_object(path)
    if told is None:
        return DeclaredFacts(source=str(path), problem=f"{path} is no JSON object, and tells nothing of the features")
    found: dict[str, Any] = {}
    problems = []
    for name, value in _values(told).items():
        expected = "a number above 0 and below a million" if name in NUMBERS else "text"
        if _is_number(value) if name in NUMBERS else isinstance(value, str):
            found[name] = value
        else:
            problems.append(f"{path}: {name} is {str(value)[:40]!r}; expected {expected}")
    return DeclaredFacts(**found, source=str(path), problem="; ".join(problems))


def _values(told: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: told[name] for name in ("encoder", "weights_sha256", *NUMBERS) if told.get(name) is not None}
    if isinstance(found.get("encoder"), str):
        found["encoder"] = encoder_name(found["encoder"], str(told.get("weights", "")))
    key = next((name for name in TRANSFORMS if told.get(name) is not None), "")
    return {**found, "transform": transform_text(told[key])} if key else found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MOST


def encoder_name(encoder: str, weights: str) -> str:
    """The encoder, with a word on weights that nobody trained: such features mean nothing, and are no trained encoder's."""
    return f"{encoder} (random weights)" if encoder and weights.startswith(RANDOM) else encoder


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a small JSON file; None if it holds anything else, or cannot be read."""
    try:
        if special_kind(path) or path.stat().st_size > MOST_BYTES:
            return None
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def transform_text(value: Any) -> Any:
    """A transform as one text, whether it was stored as JSON or as the object itself, in whatever order of keys."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else str(value)


def completed(header: SlideHeader, declared: DeclaredFacts) -> SlideHeader:
    """The header with what is declared where the file does not tell; `facts_problem` says what contradicts the file."""
    if declared == NOTHING:
        return header
    said = {name: value for name in WORDS if (value := getattr(declared, name))}
    against = [name for name, value in said.items() if not _agree(getattr(header, name), value)]
    told = [
        f"{declared.source} says that the {WORDS[name]} is {_shown(said[name])}, the file says {_shown(getattr(header, name))}"
        for name in against
    ]
    problem = "; ".join(filter(None, (header.facts_problem, declared.problem, *told)))
    filled = {name: value for name, value in said.items() if not getattr(header, name)}
    return header._replace(**filled, facts_problem=problem)


def _shown(value: object) -> str:
    return shortened(str(value), LONGEST_SHOWN)


def _agree(stored: str | float | None, declared: str | float) -> bool:
    """Whether a file does not tell, or says the same; letters' case and 2 % of a number make no difference."""
    if not stored:
        return True
    if isinstance(stored, str) or isinstance(declared, str):
        return str(stored).casefold() == str(declared).casefold()
    return is_one_scale((stored, declared))
