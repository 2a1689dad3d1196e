"""Question: what a run folder asks of a dataset now, and whether a stored trial answers it.

Labels, features, the split or settings may change between two commands on one run folder. What was trained before
answers another question: it stays on disk, and no table, figure or tracked run may mix it with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DATA = {"fingerprint": "labels or features", "split_sha256": "split", "feature_scaling": "feature scaling"}
"""What all trials of a dataset share, in words."""

SETTINGS = ("format", "model_version", "precision", "recipe", "hyperparameters")
"""What all trials of a model share."""


@dataclass(frozen=True)
class Question:
    """What is asked of one dataset.

    Attributes
    ----------
    fingerprint, split_sha256, feature_scaling : as in a trial's identity.
    labels_sha256, features_sha256 : parts of the fingerprint, to say which of the two changed; "" = not recorded.
    models : settings by model name; a model that is not listed may have any.
    last_used : ISO time at which a command last asked it.
    """

    fingerprint: str
    split_sha256: str
    feature_scaling: str
    labels_sha256: str = ""
    features_sha256: str = ""
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    last_used: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def differences(self, info: Mapping[str, Any]) -> tuple[str, ...]:
        """What a trial was trained on that is not asked any more, in words; empty if the trial answers the question.

        Parameters
        ----------
        info : what the trial's `trial.json` holds.
        """
        found = [words for key, words in DATA.items() if key in info and info[key] != getattr(self, key)]
        return (*found, *settings_changed(info, self.models.get(str(info.get("model")), {})))


def settings_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a trial's identity or record that all trials of its model share."""
    return {key: info[key] for key in SETTINGS if key in info}


def settings_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that differ, such as "trainer.epochs 4 -> 2"; only those that both sides state."""
    changed = []
    for key in SETTINGS:
        if key not in before or key not in now or before[key] == now[key]:
            continue
        if key in ("recipe", "hyperparameters"):
            prefix = {"recipe": "trainer", "hyperparameters": "model"}[key]
            changed += _entries_changed(prefix, before[key], now[key])
        else:
            changed.append(f"{key.replace('_', ' ')} {before[key]} -> {now[key]}")
    return changed


def _entries_changed(prefix: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            yield f"{prefix}.{key} {before.get(key)} -> {now.get(key)}"
