#!/usr/bin/env bash
# Versions   torchmetrics 1.9.0, torch 2.13.0, scikit-learn 1.9.1 (public packages from PyPI, without milbench)
# Behaviour  R2Score keeps the sum of squared targets in float32 and takes the squared mean off it at the end. If the mean is
#            large beside the spread, as for a year, both are nearly equal and their difference is mostly rounding. So R²
#            depends on how many bags come per update, and is far from the truth. ExplainedVariance has the same fault. There is
#            no error and no warning. Pearson's and the concordance correlation, which shift their sums, are right.
# A guess    would be scikit-learn's value to several digits: years are exact in float32.
# Seen       3,000 patients, a year of diagnosis of 2010 ± 5 and a prediction of it
#            scikit-learn 0.654, torchmetrics with one bag per update 0.737, with all in one update 0.651
# Known as   Lightning-AI/torchmetrics issue 3077, open
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 scikit-learn==1.9.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from sklearn.metrics import r2_score
from torchmetrics import PearsonCorrCoef, R2Score

torch.manual_seed(0)
years = 2010 + 5 * torch.randn(3000)
predicted = years + 3 * torch.randn(3000)
truth = r2_score(years, predicted)
print(f"scikit-learn {truth:.3f}")
seen = {}
for bags_per_update in (1, 3000):
    r2, correlation = R2Score(), PearsonCorrCoef()
    for these in torch.arange(3000).split(bags_per_update):
        r2.update(predicted[these], years[these])
        correlation.update(predicted[these], years[these])
    seen[bags_per_update] = float(r2.compute())
    print(f"bags per update {bags_per_update}: R² {seen[bags_per_update]:.3f}, correlation {float(correlation.compute()):.3f}")
is_off = abs(seen[1] - truth) > 0.02
sys.exit(0 if is_off else "torchmetrics now sums squares otherwise: look again")
PYTHON
