"""Identity: the settings and data that decide a trial's result, and the key that is made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

IDENTITY = (
    "format", "fingerprint", "split_sha256", "feature_scaling", "model", "model_version", "hyperparameters", "recipe",
    "tasks", "fold", "seed", "precision", "endpoints", "labels_sha256", "search",
)  # fmt: skip
"""What a key covers: no paths, hosts, times, workers or logging. Trials of binary tasks alone have no endpoints,
those without optional tasks no hashes of labels, and those of no search say nothing of one."""


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, tuples as lists, 1.0 and 1 kept apart."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def recorded_key(record: Mapping[str, Any]) -> str:
    """The key that follows from what a stored record says of its trial.

    A record of an older format may lack some of the settings; its key covered those that it has.
    """
    return key_of({name: record[name] for name in IDENTITY if name in record})
