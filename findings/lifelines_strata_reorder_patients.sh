#!/usr/bin/env bash
# Versions   lifelines 0.30.3, scikit-survival 0.28.0, numpy 2.4.6, pandas 2.3.3 (public packages from PyPI, without milbench)
# Behaviour  CoxPHFitter with strata (hospitals, here) predicts survival curves: one column per patient, but all patients of the
#            first hospital come first, then those of the second. Each column has its patient's name. Without names, that is as
#            an array, which is what scikit-survival's scores take, the curves are those of other patients. Without strata, and
#            for predict_partial_hazard and predict_median with strata, the order is that of the table. No warning.
# A guess    would be the order of the rows that were handed in.
# Seen       200 patients in turn from two hospitals, one table, one model
#            first patients [0, 1, 2, 3], first columns [0, 2, 4, 6]
#            integrated Brier score of the array as it comes 0.2930, by the patients' names 0.1290
# Known as   lifelines issue 1335, open, for other attributes of the same class
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lifelines==0.30.3 scikit-survival==0.28.0 numpy==2.4.6 \
    pandas==2.3.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from sksurv.metrics import integrated_brier_score
from sksurv.util import Surv

generator = np.random.default_rng(0)
risk = generator.normal(size=200)
until_death = generator.exponential(20 * np.exp(-1.5 * risk))
until_end = generator.uniform(5, 60, 200)
patients = pd.DataFrame({
    "time": np.minimum(until_death, until_end), "died": until_death <= until_end, "risk": risk, "hospital": np.arange(200) % 2})
model = CoxPHFitter().fit(patients, "time", "died", strata=["hospital"])

times = np.linspace(2, 40, 20)
curves = model.predict_survival_function(patients, times=times)
first = curves.columns[:4].tolist()
print(f"first patients {patients.index[:4].tolist()}, first columns {first}")
outcome = Surv.from_arrays(patients["died"], patients["time"])
scores = {}
for name, table in (("as it comes", curves), ("by names", curves[patients.index])):
    scores[name] = float(integrated_brier_score(outcome, outcome, table.to_numpy().T, times))
    print(f"integrated Brier score {name}: {scores[name]:.4f}")
in_order = model.predict_partial_hazard(patients).index.equals(patients.index)
as_seen = first == [0, 2, 4, 6] and in_order and scores["as it comes"] > 1.5 * scores["by names"]
sys.exit(0 if as_seen else "lifelines now orders survival curves otherwise: look again")
PYTHON
