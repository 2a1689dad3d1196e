"""Recorded numbers of other packages for tasks of every kind (tests/golden/README.md)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from places import GOLDEN

EXACT = 1e-12
"""Tolerance of float64 sums in another order."""
SINGLE = 2e-7
"""Tolerance of packages that compute in float32."""


def endpoint_golden(name: str) -> dict[str, Any]:
    """Contents of one file."""
    return dict(json.loads((GOLDEN / "endpoints" / f"{name}.json").read_text()))


def floats(values: Any) -> np.ndarray:
    return np.array(values, dtype=float)
