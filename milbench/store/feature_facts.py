"""Feature facts: how a run folder keeps what feature files tell of their making, and how it is said in words.

By fact, the number of slides by value; the value "" stands for files that do not tell:

    {"encoder": {"uni_v1": 12}, "mpp": {"0.5": 10, "0.25": 2}, "magnification": {"": 12}, "width": {"1024": 12}, ...}

A run keeps the commonest values only (`MOST_VALUES`): patch sizes in level-0 pixels may differ from slide to slide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from milbench.visible import shortened

Facts = Mapping[str, Mapping[str, int]]
"""Number of slides by value, by fact."""

MOST_VALUES, SHOWN = 20, 3
"""Values of a fact that are kept in a run, and that a text names."""

LONGEST, HASH_DIGITS = 80, 12
"""Letters of a value, and digits of a hash, that a text shows."""

NOT_STORED = "not stored"


def in_words(facts: Facts) -> dict[str, str]:
    """What the files tell, by a name for tables; "not stored" where they do not.

    >>> in_words({"encoder": {"uni": 3}, "mpp": {"0.5": 2, "0.25": 1}, "width": {"1024": 3}})["magnification"]
    '0.5 µm per pixel (2 slides), 0.25 µm per pixel (1 slides)'
    """
    units = (("magnification", "{}×"), ("mpp", "{} µm per pixel"))
    scales = [_counted(_in_unit(facts[fact], unit)) for fact, unit in units if known_values(facts, fact)]
    weights = {value[:HASH_DIGITS]: n for value, n in facts.get("weights_sha256", {}).items()}
    normalisations = {_normalisation(value): n for value, n in facts.get("transform", {}).items()}
    return {
        "encoder": _counted(facts.get("encoder", {})),
        **({"encoder weights": _counted(weights)} if any(weights) else {}),
        "magnification": "; ".join(scales) or NOT_STORED,
        "patch size": _counted(facts.get("patch_size", {})),
        "normalisation": _counted(normalisations),
        "width": _counted(facts.get("width", {})),
        "dtype": _counted(facts.get("dtype", {})),
    }


def one_line(facts: Facts) -> str:
    """What the files tell, in one line for a terminal; what they do not tell comes last, together."""
    told = in_words(facts)
    unknown = [name for name, text in told.items() if text == NOT_STORED]
    parts = [f"{name} {text}" for name, text in told.items() if text != NOT_STORED]
    return "; ".join(parts) + (f"; {NOT_STORED}: {', '.join(unknown)}" if unknown else "")


def known_values(facts: Facts, fact: str) -> list[str]:
    """Values of a fact that files tell, the commonest first."""
    return [value for value in _commonest_first(facts.get(fact, {})) if value]


def _in_unit(told: Mapping[str, int], unit: str) -> dict[str, int]:
    return {unit.format(value) if value else "": n for value, n in told.items()}


def _commonest_first(told: Mapping[str, int]) -> list[str]:
    return sorted(told, key=lambda value: (-told[value], value))


def _counted(told: Mapping[str, int]) -> str:
    """The only value, or the commonest ones with their numbers of slides."""
    order = _commonest_first(told)
    names = {value: shortened(value, LONGEST) or NOT_STORED for value in order}
    if len(order) < 2:
        return names[order[0]] if order else NOT_STORED
    texts = [f"{names[value]} ({told[value]} slides)" for value in order[:SHOWN]]
    return ", ".join(texts) + (f" and {len(order) - SHOWN} more" if len(order) > SHOWN else "")


def _normalisation(transform: str) -> str:
    """How pixels were normalised: mean and sd of milbench's own transform, else the extractor's text."""
    try:
        told = json.loads(transform)
        mean, deviation = (" ".join(f"{value:.4g}" for value in told[name]) for name in ("mean", "std"))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return transform
    size = told.get("size")
    return f"mean {mean}, sd {deviation}" + (f", resized to {size} px" if size else "")
