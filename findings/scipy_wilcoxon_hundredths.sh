#!/usr/bin/env bash
# Versions   scipy 1.17.1, numpy 2.3.5 (public packages from PyPI, without milbench)
# Behaviour  wilcoxon ranks differences as floats. AUROCs of two decimals have differences that are equal on paper and differ in the
#            last bit: 0.85 - 0.83 is not 0.90 - 0.88. So ties are told apart by rounding errors, and p moves. The
#            documentation warns of it. The result does not.
# A guess    would be the same p for a table in hundredths and for the same table times 100.
# Seen       two models on ten cohorts: p = 0.0371 for 0.83, 0.88, ..., and p = 0.0586 for 83, 88, ...
# Known as   notes of scipy.stats.wilcoxon
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from scipy.stats import wilcoxon

one = np.array([83, 88, 67, 66, 83, 84, 75, 64, 84, 75])
other = np.array([85, 90, 70, 65, 86, 81, 76, 67, 87, 79])
in_hundredths, in_percent = (float(wilcoxon(other / scale, one / scale).pvalue) for scale in (100, 1))
print(f"p = {in_hundredths:.4f} for 0.83, 0.88, ..., and p = {in_percent:.4f} for 83, 88, ...")
as_seen = round(in_hundredths, 4) == 0.0371 and round(in_percent, 4) == 0.0586
sys.exit(0 if as_seen else "scipy's wilcoxon now ranks such differences otherwise: look again")
PYTHON
