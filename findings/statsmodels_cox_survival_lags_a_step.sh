#!/usr/bin/env bash
# Versions   statsmodels 0.15.0, lifelines 0.30.3, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  PHReg's cumulative hazard at a time of death leaves out the deaths of that time: of the running sum of the steps it
#            takes the last step away again. So predict(pred_type="surv") at t tells who lives just before t, and after the last death
#            it misses the step of that death for good. With times in whole years survival lags by a year. Martingale
#            residuals are made of the same hazard: they do not sum to zero, which they do for any Cox model. The
#            coefficients agree with other packages to the last digit. There is no error and no warning.
# A guess    would be the survival beyond t, as Kaplan-Meier's curve, lifelines and scikit-survival mean it. The
#            documentation says Nelson-Aalen's estimator, which counts the deaths at t.
# Seen       400 patients seen once a year for five years. Mean of the survival curves that a model predicts for them, at 1 to 5 years
#            statsmodels 1.000, 0.935, 0.860, 0.798, 0.714; lifelines 0.935, 0.860, 0.798, 0.714, 0.641;
#            Kaplan-Meier 0.933, 0.853, 0.789, 0.700, 0.625
#            sum of the martingale residuals: statsmodels 38.7, lifelines 0.0
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0 lifelines==0.30.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from statsmodels.duration.hazard_regression import PHReg

PATIENTS, YEARS = 400, np.arange(1.0, 6.0)

random = np.random.default_rng(0)
risk = random.normal(size=PATIENTS)
deaths = np.ceil(random.exponential(12 * np.exp(-0.5 * risk)))  # told at the yearly visit
left = random.integers(1, 9, PATIENTS).astype(float)  # some are lost before the five years end
time = np.minimum(np.minimum(deaths, left), YEARS[-1])
died = (deaths == time).astype(int)
table = pd.DataFrame({"time": time, "died": died, "risk": risk})

with warnings.catch_warnings():
    warnings.simplefilter("error")  # none comes
    by_statsmodels = PHReg(time, risk[:, None], status=died, ties="efron").fit()
    lagging = np.array([
        by_statsmodels.predict(exog=risk[:, None], endog=np.full(PATIENTS, year), pred_type="surv").predicted_values.mean()
        for year in YEARS])
by_lifelines = CoxPHFitter().fit(table, "time", "died")
survival = by_lifelines.predict_survival_function(table, times=YEARS).to_numpy().mean(1)
observed = KaplanMeierFitter().fit(time, died).predict(YEARS).to_numpy()
for name, values in (("statsmodels", lagging), ("lifelines", survival), ("Kaplan-Meier", observed)):
    print(f"alive beyond 1 to 5 years, {name}: " + ", ".join(f"{value:.3f}" for value in values))
residuals = by_statsmodels.martingale_residuals.sum()
residuals_of_lifelines = by_lifelines.compute_residuals(table, "martingale")["martingale"].sum()
print(f"sum of the martingale residuals: statsmodels {residuals:.1f}, lifelines {abs(residuals_of_lifelines):.1f}")
print(f"coefficients: statsmodels {by_statsmodels.params[0]:.5f}, lifelines {by_lifelines.params_['risk']:.5f}")
as_seen = (
    lagging[0] == 1 and np.abs(lagging[1:] - survival[:-1]).max() < 0.02 and np.abs(survival - observed).max() < 0.02
    and (lagging - observed > 0.05).all() and residuals > 10 and abs(residuals_of_lifelines) < 1e-6
    and abs(by_statsmodels.params[0] - by_lifelines.params_["risk"]) < 1e-4)
sys.exit(0 if as_seen else "statsmodels now sums hazards otherwise: look again")
PYTHON
