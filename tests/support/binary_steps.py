"""Three steps of each model on binary tasks, as figures that another version of milbench must give again.

Run as a script, it writes the figures of the milbench that is imported::

    python tests/support/binary_steps.py > tests/baselines/binary_steps.json
"""

from __future__ import annotations

import json

import numpy as np
import torch
from baselines_for_tests import MODELS, bag, make
from layouts_for_tests import answer

from milbench.models import MILModel

OPTIONS: dict[str, list[dict[str, object]]] = {
    "dsmil": [{}, {"average_streams": True}],
    "dtfd_mil": [{}, {"distillation": "MaxMinS", "pseudo_bags": 3, "total_instances": 6}],
    "max_pooling": [{}, {"level": "embedding"}],
    "m4": [{}, {"loss_over_tasks": "mean"}],
    "la_mil": [{}, {"reach": "global"}],
}
RATES = {"barspoon": 0.001, "la_mil": 0.01}
"""Of models whose losses would explode at 0.1."""

CASES = {f"{name} {options or ''}".strip(): (name, options) for name in MODELS for options in OPTIONS.get(name, [{}])}


def figures(case: str) -> list[float]:
    """Losses of three steps, dropout on, and the sum of the weights' squares after them."""
    name, options = CASES[case]
    model = with_weights(make(name, **options).double().train())
    known = torch.tensor([1.0, 0.0, 1.0]).double()[: model.n_tasks]
    optimizer, found = torch.optim.SGD(model.parameters(), lr=RATES.get(name, 0.1)), []
    torch.manual_seed(4)
    for step in range(3):
        targets = (torch.arange(model.n_tasks) + step).double() % 2
        optimizer.zero_grad()
        loss = model.loss(answer(model, bag(20, step).double()), targets, known if step else torch.ones_like(known))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return [*found, sum(float((p.detach() ** 2).sum()) for p in model.parameters())]


def with_weights(model: MILModel) -> MILModel:
    """The model with weights of NumPy's generator, which are the same on every machine."""
    rng = np.random.default_rng(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(0.3 * rng.standard_normal(parameter.shape)))
    return model


if __name__ == "__main__":
    print(json.dumps({case: figures(case) for case in CASES}, indent=1))  # noqa: T201 - the script's output
