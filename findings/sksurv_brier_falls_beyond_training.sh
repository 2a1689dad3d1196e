#!/usr/bin/env bash
# Versions   scikit-survival 0.28.0, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  The Brier score at a time t weighs patients by 1 / G, the share of the training side that is not censored yet. Where
#            the study of the training side ended before t, G is 0. brier_score then takes 1 / G for 0, for all who are
#            alive at t and all who died since. They count as predicted without an error, and the score falls. There is no
#            error and no warning. cumulative_dynamic_auc and concordance_index_ipcw raise an error for the same patients, and so
#            does brier_score if the last patient of the training side died.
# A guess    would be an error or NaN: nobody of the training side tells how many are censored at t.
# Seen       training side followed for 60 months, test side for 100 months without a patient lost before. The plain mean of
#            squared errors, which is the Brier score of a side without censoring, and brier_score at 48, 72 and 96 months
#            a constant survival of one half: by hand 0.250, 0.250, 0.250, brier_score 0.250, 0.162, 0.162
#            the true survival: by hand 0.247, 0.203, 0.145, brier_score 0.247, 0.059, 0.026
#            integrated over 6 to 96 months: 0.204 by hand, 0.145 by integrated_brier_score
# Known as   sebp/scikit-survival issue 511, closed, for the error
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-survival==0.28.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
from sksurv.metrics import brier_score, concordance_index_ipcw, cumulative_dynamic_auc, integrated_brier_score
from sksurv.util import Surv

warnings.simplefilter("error")  # none comes
PATIENTS, MEAN = 400, 60.0


def followed(deaths, months):
    """Patients who die at `deaths`, as a study of so many months sees them."""
    return Surv.from_arrays(deaths < months, np.minimum(deaths, months))


random = np.random.default_rng(0)
training = followed(random.exponential(MEAN, PATIENTS), 60)
deaths = random.exponential(MEAN, PATIENTS)
test = followed(deaths, 100)
months = np.arange(6.0, 97.0, 6.0)
shown = np.searchsorted(months, (48, 72, 96))
alive = (deaths[:, None] > months).astype(float)
scores = {}
for name, survival in (("one half", np.full(alive.shape, 0.5)), ("the truth", np.tile(np.exp(-months / MEAN), (PATIENTS, 1)))):
    by_hand = ((survival - alive) ** 2).mean(0)
    _, scored = brier_score(training, test, survival, months)
    scores[name] = by_hand, scored, integrated_brier_score(training, test, survival, months)
    for who, values in (("by hand", by_hand), ("brier_score", scored)):
        print(f"{name}, {who}: " + ", ".join(f"{value:.3f}" for value in values[shown]))
by_hand, scored, integrated = scores["the truth"]
integrated_by_hand = np.trapezoid(by_hand, months) / np.ptp(months)
print(f"integrated, the truth: by hand {integrated_by_hand:.3f}, integrated_brier_score {integrated:.3f}")
last_died = training.copy()
last_died["event"][np.argmax(last_died["time"])] = True
last_died["time"][np.argmax(last_died["time"])] += 1
raised = []
for name, call in (
    ("brier_score, the last of the training side died", lambda: brier_score(last_died, test, survival, months)),
    ("cumulative_dynamic_auc", lambda: cumulative_dynamic_auc(training, test, -deaths, months)),
    ("concordance_index_ipcw", lambda: concordance_index_ipcw(training, test, -deaths)),
):
    try:
        call()
        raised.append(False)
    except ValueError as error:
        print(f"{name}: {error}")
        raised.append(True)
before, after = months < 60, months > 60
falls = (
    all(np.allclose(ours[before], theirs[before], atol=1e-12) for ours, theirs, _ in scores.values())
    and all((theirs[after] < 0.7 * ours[after]).all() for ours, theirs, _ in scores.values())
    and integrated < integrated_by_hand - 0.03)
sys.exit(0 if falls and all(raised) else "scikit-survival now weighs times beyond the training side otherwise: look again")
PYTHON
