#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0 (public packages from PyPI, without milbench)
# Behaviour  BootStrapper draws anew within each update, not among all bags. With sampling_strategy="multinomial", which is the
#            bootstrap of the textbooks, and one bag per update, each draw is that bag. All copies of the metric are the same,
#            and its standard error is zero. There is no error and no warning. In updates of all bags it is what it should be.
# A guess    would be one standard error for the same bags, however they come.
# Seen       100 bags, AUROC 0.678, 200 copies
#            bags per update 100: standard error 0.050, 10: 0.052, 1: 0.000
#            the Poisson bootstrap, one bag per update: 0.061
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchmetrics.classification import BinaryAUROC
from torchmetrics.wrappers import BootStrapper

torch.manual_seed(0)
scores = torch.rand(100)
labels = (scores + torch.randn(100) / 2 > 0.5).int()
print(f"AUROC {float(BinaryAUROC()(scores, labels)):.3f}")
errors = {}
for strategy, bags_per_update in (("multinomial", 100), ("multinomial", 10), ("multinomial", 1), ("poisson", 1)):
    torch.manual_seed(1)
    copies = BootStrapper(BinaryAUROC(), num_bootstraps=200, sampling_strategy=strategy)
    for these in torch.arange(100).split(bags_per_update):
        copies.update(scores[these], labels[these])
    errors[strategy, bags_per_update] = float(copies.compute()["std"])
    print(f"{strategy}, bags per update {bags_per_update}: standard error {errors[strategy, bags_per_update]:.3f}")
no_width = errors.pop(("multinomial", 1)) < 1e-6 and all(error > 0.03 for error in errors.values())
sys.exit(0 if no_width else "torchmetrics now draws its bootstrap otherwise: look again")
PYTHON
