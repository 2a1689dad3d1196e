#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  AUROC and average precision of logits take a sigmoid of an update if it holds a value outside of 0 to 1, and take
#            the values as they are if it does not. Each update decides for itself. With one bag per update, which is usual in
#            multiple-instance learning, logits between 0 and 1 stay and all others are squeezed, so that the order of the
#            bags changes. There is no error and no warning.
# A guess    would be one number for the same bags, however they come: only the order of the scores counts.
# Seen       six bags, every positive has a higher logit than every negative
#            bags per update 6: AUROC 1.000, 3: 0.333, 2: 0.667, 1: 0.333
# Known as   Lightning-AI/torchmetrics issue 2195, open
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

logits = torch.tensor([-0.9, -0.6, -0.3, 0.2, 0.3, 0.4])
labels = torch.tensor([0, 0, 0, 1, 1, 1])
seen = {}
for bags_per_update in (6, 3, 2, 1):
    auroc, precision = BinaryAUROC(), BinaryAveragePrecision()
    for these in torch.arange(6).split(bags_per_update):
        auroc.update(logits[these], labels[these])
        precision.update(logits[these], labels[these])
    seen[bags_per_update] = round(float(auroc.compute()), 3)
    print(f"bags per update {bags_per_update}: AUROC {seen[bags_per_update]:.3f}, average precision {float(precision.compute()):.3f}")
as_seen = seen == {6: 1.0, 3: 0.333, 2: 0.667, 1: 0.333}
sys.exit(0 if as_seen else "torchmetrics now takes logits in updates otherwise: look again")
PYTHON
