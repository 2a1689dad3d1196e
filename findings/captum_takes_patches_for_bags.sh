#!/usr/bin/env bash
# Versions   captum 0.9.0, torch 2.13.0, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  IntegratedGradients walks in 50 steps from an empty input to the given one, and lays all steps behind one another
#            along the first axis, as so many examples. A model of bags [N, D] takes them for one bag of 50 N patches: the steps
#            compete for attention. What comes back has the shape of the bag. It sums to a fiftieth or less of the answer, depends
#            on the number of steps, and patches change order and sign. There is no error and no warning.
#            internal_batch_size=N, which is there to save memory, makes it right, and so does a model of batches [B, N, D].
# A guess    would be that the parts of all patches sum to the answer, as the method promises, or an error: the model gives one
#            answer for N rows.
# Seen       attention pooling of four patches, answer -3.710. Parts by hand, in 1,000 steps: -3.550, -0.104, -0.246, 0.190
#            the bag as it is: -0.061, -0.002, 0.003, -0.000, sum -0.061. In 200 steps: sum -0.015
#            internal_batch_size=4: -3.550, -0.104, -0.246, 0.190. As a batch of one bag: the same
# Known as   the documentation says that the first axis counts examples
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 captum==0.9.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import torch
from captum.attr import IntegratedGradients

bag = torch.tensor([[4.0, -4.0], [-2.0, -1.0], [2.0, -2.0], [-1.0, 4.0]])  # [N, 2]: score of attention, value


def pooled(bag):
    """Answer [1, 1] for a bag [N, 2]."""
    return (bag[:, :1].softmax(dim=0) * bag[:, 1:]).sum(dim=0, keepdim=True)


def pooled_batch(bags):
    """Answers [B, 1] for bags [B, N, 2]."""
    return torch.cat([pooled(bag) for bag in bags])


def by_hand(steps):
    """Parts [N] of the answer: the gradient along the way, in the middle of each step, times the bag."""
    gradients = torch.zeros_like(bag)
    for step in range(steps):
        on_the_way = (bag * (step + 0.5) / steps).requires_grad_()
        gradients += torch.autograd.grad(pooled(on_the_way).sum(), on_the_way)[0] / steps
    return (gradients * bag).sum(dim=1)


with warnings.catch_warnings():
    warnings.simplefilter("error")  # none comes
    parts = {
        "by hand": by_hand(1000),
        "the bag as it is": IntegratedGradients(pooled).attribute(bag).sum(dim=1),
        "in 200 steps": IntegratedGradients(pooled).attribute(bag, n_steps=200).sum(dim=1),
        "internal_batch_size": IntegratedGradients(pooled).attribute(bag, internal_batch_size=len(bag)).sum(dim=1),
        "batch of one bag": IntegratedGradients(pooled_batch).attribute(bag[None])[0].sum(dim=1)}
answer = (pooled(bag) - pooled(torch.zeros_like(bag))).item()
print(f"answer {answer:.3f}")
for name, values in parts.items():
    print(f"{name}: " + ", ".join(f"{value:.3f}" for value in values.tolist()) + f", sum {values.sum():.3f}")
right, wrong, longer = parts["by hand"], parts["the bag as it is"], parts["in 200 steps"]
as_seen = (
    abs(right.sum().item() - answer) < 1e-3
    and all(torch.allclose(parts[name].float(), right, atol=1e-3) for name in ("internal_batch_size", "batch of one bag"))
    and 0.01 < abs(wrong.sum().item()) < abs(answer) / 50
    and abs(longer.sum().item()) < 0.5 * abs(wrong.sum().item())
    and right[2] < -0.2 and wrong[2] > 0 and wrong.argmax() != right.argmax())
sys.exit(0 if as_seen else "captum now treats a bag otherwise: look again")
PYTHON
