#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0, scikit-learn 1.9.1 (public packages from PyPI, without milbench)
# Behaviour  AUROC of logits takes their sigmoid in float32 first. Every logit above 17 becomes 1, so that bags tie which the model
#            tells apart, and each such pair counts one half. There is no error and no warning. Below zero there is room: a
#            logit of -17 stays what it is. So the same model with all logits lowered by 20 has another AUROC.
# A guess    would be the AUROC of the logits: a sigmoid keeps their order.
# Seen       logits of 17.5 to 24 that part the classes: torchmetrics 0.5, scikit-learn 1.0
#            each lowered by 20: both 1.0
# Known as   Lightning-AI/torchmetrics issue 2819, open
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 scikit-learn==1.9.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import BinaryAUROC

labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
sure = torch.tensor([17.5, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0, 24.0])
seen = []
for name, logits in (("logits of 17.5 to 24", sure), ("each lowered by 20  ", sure - 20)):
    by_torchmetrics, by_sklearn = float(BinaryAUROC()(logits, labels)), float(roc_auc_score(labels, logits))
    seen.append((by_torchmetrics, by_sklearn))
    print(f"{name}: torchmetrics {by_torchmetrics}, scikit-learn {by_sklearn}")
sys.exit(0 if seen == [(0.5, 1.0), (1.0, 1.0)] else "torchmetrics now ranks such logits otherwise: look again")
PYTHON
