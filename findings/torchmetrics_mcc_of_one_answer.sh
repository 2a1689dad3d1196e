#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0, scikit-learn 1.9.1 (public packages from PyPI, without milbench)
# Behaviour  Matthews' correlation of a model that calls all patients negative is not 0 in torchmetrics. The correlation is then 0 / 0,
#            and torchmetrics adds a small number to each of the four sums below the line, and puts (right - wrong) times the root
#            of that number above it. The small number cancels, and what is left is (N - P) / sqrt(N P (N + P)), of N negative and P
#            positive patients: about 1 / sqrt(P) for a rare class. The same model with all patients called positive gets
#            the negative of it. There is no error and no warning. The class for several classes does so for two, and not for three.
# A guess    would be 0, as in scikit-learn: an answer that is the same for everybody tells nothing, and that Matthews'
#            correlation then says so is why it is taken in place of the accuracy.
# Seen       100 patients, 10 of them with a mutation
#            all called negative: torchmetrics 0.267, scikit-learn 0.000
#            half of the mutations found, and 80 % of the others called negative: 0.214 by both. The best epoch by this
#            number is the one that finds nobody.
#            all called negative, one patient of 100 with a mutation: torchmetrics 0.985, scikit-learn 0.000
# Known as   Lightning-AI/torchmetrics issue 3355, for sides of one class
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import torch
from sklearn.metrics import matthews_corrcoef
from torchmetrics.classification import BinaryMatthewsCorrCoef, MulticlassMatthewsCorrCoef

warnings.simplefilter("error")  # none comes


def side(positive, found, alarms, patients=100):
    """Targets and sure probabilities: the first `positive` patients are positive; `found` of them and `alarms` others are called so."""
    place = torch.arange(patients)
    called = (place < found) | ((place >= positive) & (place < positive + alarms))
    return (place < positive).long(), torch.where(called, 0.9, 0.1)


def both(targets, probabilities):
    """Matthews' correlation by torchmetrics, one patient per update, and by scikit-learn."""
    metric = BinaryMatthewsCorrCoef()
    for target, probability in zip(targets, probabilities):
        metric.update(probability[None], target[None])
    return float(metric.compute()), float(matthews_corrcoef(targets, probabilities > 0.5))


seen = {}
for name, patients in (
    ("10 of 100 positive, all called negative", side(10, 0, 0)),
    ("10 of 100 positive, all called positive", side(10, 10, 90)),
    ("10 of 100 positive, 5 found, 18 false alarms", side(10, 5, 18)),
    ("1 of 100 positive, all called negative", side(1, 0, 0)),
    ("50 of 100 positive, all called negative", side(50, 0, 0)),
):
    seen[name] = both(*patients)
    print(f"{name}: torchmetrics {seen[name][0]:+.3f}, scikit-learn {seen[name][1]:+.3f}")
nobody, everybody, useful, rare, even = seen.values()
targets = torch.tensor([0] * 90 + [1] * 10)
two, three = (float(MulticlassMatthewsCorrCoef(classes)(torch.zeros(100, dtype=torch.long), targets)) for classes in (2, 3))
print(f"10 of 100 in the second class, all called the first: two classes {two:+.3f}, three classes {three:+.3f}")
as_seen = (
    abs(useful[0] - useful[1]) < 1e-6 and all(abs(theirs) < 1e-9 for _, theirs in (nobody, everybody, rare, even))
    and nobody[0] > useful[0] and abs(nobody[0] - 80 / 90_000**0.5) < 1e-4 and abs(nobody[0] + everybody[0]) < 1e-6
    and rare[0] > 0.98 and abs(even[0]) < 1e-6 and abs(two - nobody[0]) < 1e-6 and abs(three) < 1e-6)
sys.exit(0 if as_seen else "torchmetrics now computes Matthews' correlation of one answer otherwise: look again")
PYTHON
