"""Outputs of every kind, and targets for them."""

from __future__ import annotations

import torch
from torch import Tensor

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs

CLASSES = FittedEndpoint(Endpoint("multiclass", ("A", "B", "C", "D")), "ce")
GRADES = FittedEndpoint(Endpoint("ordinal", ("low", "middle", "high")), "corn")
VALUE = FittedEndpoint(Endpoint("regression"), "huber", center=20.0, scale=5.0)
BINS = FittedEndpoint(Endpoint("survival"), "nll", edges=(100.0, 200.0, 300.0))
RISK = FittedEndpoint(Endpoint("survival"), "cox")

SINGLE = {
    "binary": FittedEndpoint(),
    "classes": CLASSES,
    "thresholds": GRADES,
    "grades": FittedEndpoint(GRADES.endpoint, "ce"),
    "grade": FittedEndpoint(GRADES.endpoint, "l1"),
    "value": VALUE,
    "bins": BINS,
    "risk": RISK,
}
"""One task of each kind, and of each form of logits."""

MIXED = Outputs([FittedEndpoint(), CLASSES, VALUE, BINS, GRADES, FittedEndpoint(), RISK])
"""Tasks of all kinds at once; two are binary, and widths that are shared do not stand side by side."""

EVERY = {name: Outputs([endpoint]) for name, endpoint in SINGLE.items()} | {"mixed": MIXED}


def targets_for(outputs: Outputs, turn: int = 0) -> Tensor:
    """Targets [T] of one bag, float64; `turn` names another bag."""
    return torch.tensor([_target(endpoint, turn) for endpoint in outputs.endpoints], dtype=torch.float64)


def _target(endpoint: FittedEndpoint, turn: int) -> float:
    if endpoint.kind == "regression":
        return 0.7 - turn
    if endpoint.loss == "nll":
        return float((1, -3, 4)[turn % 3])
    if endpoint.loss == "cox":  # the derivative of a step's loss
        return 0.25 - 0.5 * (turn % 2)
    return float(turn % max(2, len(endpoint.endpoint.classes)))
