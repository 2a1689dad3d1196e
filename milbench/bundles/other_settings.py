"""Other settings: in what the trainings of one model differ that several people bring to a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from milbench.bundles.same_question import Side
from milbench.store.trial import PREDICTIONS, StoredTrial

OF_THE_DATA = ("fingerprint", "feature_scaling", "protocol", "precision", "model_version", "source_sha256")
"""Entries of a record beside settings, on which what a model learns depends."""
CALLED = {"fingerprint": "features and labels", "source_sha256": "code of the model"}
MOST_SHOWN = 6


def told_settings(sides: Sequence[Side], dataset: str) -> str:
    """Sentences on each model that two sides brought, each beginning with a blank; "" if there is none."""
    found = []
    for first, other in combinations(sides, 2):
        ours, theirs = _by_model(first, dataset), _by_model(other, dataset)
        for model in sorted(ours.keys() & theirs.keys()):
            found.append(_told(first, other, ours[model], theirs[model]))
    return "".join(f" {sentence}" for sentence in found if sentence)


def _told(first: Side, other: Side, ours: list[StoredTrial], theirs: list[StoredTrial]) -> str:
    title = ours[0].info["model_title"]
    if _said(ours) == _said(theirs):
        return f"{title} of {first.label} and of {other.label} is one and the same training, which counts twice here."
    a, b = _settings(ours[0].info), _settings(theirs[0].info)
    names = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    told = [name if name in CALLED.values() else f"{name} {_shown(a, name)} and {_shown(b, name)}" for name in names]
    if not told:
        return ""
    more = f", and {len(told) - MOST_SHOWN} more" if len(told) > MOST_SHOWN else ""
    return f"{title} differs between {first.label} and {other.label}: {', '.join(told[:MOST_SHOWN])}{more}."


def _said(trials: Sequence[StoredTrial]) -> set[str]:
    """Checksums of what trials predicted."""
    return {str(trial.info["payload_sha256"][PREDICTIONS]) for trial in trials}


def _by_model(side: Side, dataset: str) -> dict[str, list[StoredTrial]]:
    found: dict[str, list[StoredTrial]] = {}
    for trial in side.trials(dataset):
        found.setdefault(trial.info["model"], []).append(trial)
    return found


def _settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """Value by name, of what a trial ran with."""
    rest = {CALLED.get(name, name): info[name] for name in OF_THE_DATA if name in info}
    return {**info["hyperparameters"], **info["recipe"], **rest}


def _shown(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    return "none" if value is None else str(value)[:40]
