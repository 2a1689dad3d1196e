#!/usr/bin/env bash
# Versions   torch 2.13.0 (public package from PyPI, without milbench)
# Behaviour  CrossEntropyLoss(weight=...) divides the weighted sum of a batch by the sum of the weights. With one bag per step,
#            as in most code for multiple-instance learning, the weight is divided by itself: loss and gradient are those
#            without weights, whatever the weights are, also with gradients summed over many bags. There is no error and no
#            warning. BCEWithLogitsLoss(pos_weight=...) does weigh a single bag.
# A guess    would be that a bag of a rare class with a weight of 9 has nine times the loss, as with reduction="none".
# Seen       90 bags of class 0 and 10 of class 1, weights 1 and 9, a model that learns the shares of the classes alone
#            share of class 1 that it learns: 0.50 of all bags in one step, 0.10 of one bag per step. Without weights 0.10
# Known as   pytorch/pytorch issue 61309, open; the documentation has the formula
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch.nn import CrossEntropyLoss

labels = torch.tensor([0] * 90 + [1] * 10)
weighted, plain = CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])), CrossEntropyLoss()


def learned_share(loss, bags_per_step):
    """Share of class 1 that two logits learn, when the gradients of all 100 bags are summed before each step."""
    logits = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        batches = labels.split(bags_per_step)
        for batch in batches:
            (loss(logits.expand(len(batch), 2), batch) / len(batches)).backward()
        optimiser.step()
    return round(float(logits.softmax(0)[1]), 2)


seen = [learned_share(weighted, 100), learned_share(weighted, 1), learned_share(plain, 1)]
print(f"weights, all bags in one step {seen[0]}; weights, one bag per step {seen[1]}; without weights {seen[2]}")
sys.exit(0 if seen == [0.5, 0.1, 0.1] else "torch now weighs a single bag otherwise: look again")
PYTHON
