#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  MetricCollection looks once, after the first update, which of its metrics have equal counts, and lets these share one
#            count from then on. With one bag per update, sensitivity at two thresholds has equal counts if the first bag lies
#            above both or below both. All later bags are counted by the rule of the metric whose name sorts first, and the other
#            one shows its number. reset() does not undo it: later epochs are wrong as well, whatever their first bag. There is
#            no error and no warning. Called as a function, which also gives the value of the batch, the same collection is
#            right, and so it is with compute_groups=False.
# A guess    would be that a metric keeps its own threshold, and that the order of the bags is of no account.
# Seen       ten bags, six positive: five of these above 0.2, two above 0.5
#            one bag per update, that with 0.9 first: sensitivity at 0.2 is 0.833, at 0.5 it is 0.833, and again in the next epoch
#            that with 0.4 first, or all in one update, or called, or compute_groups=False: 0.833 and 0.333
# Known as   Lightning-AI/torchmetrics issues 2596 and 2916, closed: other metrics, the same cause
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryRecall

scores = torch.tensor([0.9, 0.4, 0.3, 0.1, 0.8, 0.3, 0.25, 0.1, 0.05, 0.6])
labels = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 0, 0])


def sensitivity(**options):
    return MetricCollection({"at_02": BinaryRecall(threshold=0.2), "at_05": BinaryRecall(threshold=0.5)}, **options)


def values(metrics):
    found = metrics.compute()
    return [round(float(found[name]), 3) for name in ("at_02", "at_05")]


def epoch(metrics, first=0, bags_per_update=1):
    metrics.reset()
    for these in torch.arange(len(labels)).roll(-first).split(bags_per_update):
        metrics.update(scores[these], labels[these])
    return values(metrics)


def called(metrics):
    for bag in range(len(labels)):
        metrics(scores[bag : bag + 1], labels[bag : bag + 1])
    return values(metrics)


kept = sensitivity()
seen = {
    "one bag per update": epoch(kept),
    "the next epoch, from the bag with 0.4 on": epoch(kept, first=1),
    "a new collection, from the bag with 0.4 on": epoch(sensitivity(), first=1),
    "all bags in one update": epoch(sensitivity(), bags_per_update=10),
    "called as a function": called(sensitivity()),
    "compute_groups=False": epoch(sensitivity(compute_groups=False)),
}
for name, (lower, upper) in seen.items():
    print(f"{name}: sensitivity at 0.2 {lower:.3f}, at 0.5 {upper:.3f}")
merged, right = [0.833, 0.833], [0.833, 0.333]
as_seen = list(seen.values()) == [merged, merged, right, right, right, right]
sys.exit(0 if as_seen else "torchmetrics now tells the metrics of a collection apart: look again")
PYTHON
