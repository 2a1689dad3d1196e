#!/usr/bin/env bash
# Versions   torchsurv 0.2.0, torch 2.13.0, pandas 2.3.3 (public packages from PyPI, without milbench)
# Behaviour  BrierScore without weights counts a patient who was censored before t as an error of zero and divides by all
#            patients. So the score falls with censoring, whatever the model says. The formula in the documentation of the
#            class shows it, the result does not. With weights of get_ipcw the score is that of Graf et al. 1999.
# A guess    would be that a constant answer of one half has a Brier score of a quarter, as in scikit-survival.
# Seen       40 patients, a survival of 0.5 for everybody at all times
#            without weights [0.2375, 0.2188, 0.2062, 0.1875, 0.1875], with weights 0.25 at each time
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchsurv==0.2.0 pandas==2.3.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.stats.ipcw import get_ipcw

time = torch.cat([torch.arange(1.0, 21.0), torch.full((20,), 30.0)])
event = torch.tensor([True, False] * 10 + [False] * 20)
times = torch.tensor([5.0, 10.0, 15.0, 20.0, 25.0])
one_half = torch.full((40, 5), 0.5)

plain = BrierScore()(one_half, event, time, new_time=times)
weights = {"weight": get_ipcw(event, time), "weight_new_time": get_ipcw(event, time, times)}
weighted = BrierScore()(one_half, event, time, new_time=times, **weights)
print("without weights", [round(float(score), 4) for score in plain])
print("with weights   ", [round(float(score), 4) for score in weighted])
known = torch.stack([((time > t) | (event & (time <= t))).float().mean() for t in times])
as_seen = torch.allclose(plain, 0.25 * known) and float(plain[-1]) < 0.2 and torch.allclose(weighted, torch.tensor(0.25))
sys.exit(0 if as_seen else "torchsurv now scores censored patients otherwise: look again")
PYTHON
