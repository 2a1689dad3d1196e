#!/usr/bin/env bash
# Versions   lifelines 0.30.3, scikit-survival 0.28.0, numpy 2.4.6, pandas 2.3.3 (public packages from PyPI, without milbench)
# Behaviour  A Cox model's baseline is a step function: it changes when somebody dies. CoxPHFitter gives the steps if it is not
#            asked for times. Asked for times, it draws a straight line between two steps of the cumulative hazard. So survival
#            falls in months in which nobody died, towards a death that comes later, and differs from that of the same model
#            without times, of scikit-survival and of lifelines' own Kaplan-Meier curve. There is no error and no warning.
# A guess    would be the value of the step: that of the last death before the time.
# Seen       deaths at 2, 4, 6, 8 and 20 months, nobody in between. Survival of one patient at 8, 12, 16 and 19 months
#            times asked for: 0.390, 0.331, 0.281, 0.249. No times: 0.390 until 20 months
#            scikit-survival, same coefficient: 0.390, 0.390, 0.390, 0.390
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
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

MONTHS = [8.0, 12.0, 16.0, 19.0]
patients = pd.DataFrame({
    "months": [2.0, 4.0, 6.0, 8.0, 20.0, 22.0], "died": [True] * 5 + [False], "risk": [0.1, -0.2, 0.3, 0.1, -0.4, 0.2]})
model = CoxPHFitter().fit(patients, "months", "died")
asked = model.predict_survival_function(patients[:1], times=MONTHS)[0].to_numpy()
steps = model.predict_survival_function(patients[:1])[0]
not_asked = steps.loc[[max(death for death in steps.index if death <= month) for month in MONTHS]].to_numpy()
other = CoxPHSurvivalAnalysis(ties="breslow").fit(patients[["risk"]], Surv.from_dataframe("died", "months", patients))
(curve,) = other.predict_survival_function(patients[["risk"]][:1])
by_sksurv = curve(np.array(MONTHS))
for name, survival in (("times asked for", asked), ("no times", not_asked), ("scikit-survival", by_sksurv)):
    print(f"{name}: " + ", ".join(f"{value:.3f}" for value in survival))
is_line = np.ptp(not_asked) == np.ptp(by_sksurv) == 0 and bool((np.diff(asked) < -0.02).all()) and abs(asked[0] - by_sksurv[0]) < 1e-3
sys.exit(0 if is_line else "lifelines now reads a baseline between two deaths otherwise: look again")
PYTHON
