#!/usr/bin/env bash
# Versions   lifelines 0.30.3, numpy 2.3.5, pandas 2.3.3 (public packages from PyPI, without milbench)
# Behaviour  A status of 1 = censored and 2 = dead, as in the tables that come with R's survival package, is taken as an event
#            for everybody: each value that is not 0 counts as one. KaplanMeierFitter, logrank_test and
#            concordance_index answer without an error and without a warning.
# A guess    would be an error, as in scikit-survival, which takes 0 and 1 only.
# Seen       six patients, three deaths. Status 1 and 2: 6 events, survival 0.00 at the end, log-rank p 0.34
#            Status 0 and 1: 3 events, survival 0.30 at the end, log-rank p 0.67
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lifelines==0.30.3 numpy==2.3.5 pandas==2.3.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test

times, others = np.arange(1, 7), np.arange(2, 8)
status, status_of_others = np.array([1, 2, 2, 1, 2, 1]), np.array([1, 2, 2, 1, 2, 2])
seen = {}
for name, less in (("1 and 2", 0), ("0 and 1", 1)):
    curve = KaplanMeierFitter().fit(times, status - less)
    p = logrank_test(times, others, status - less, status_of_others - less).p_value
    seen[name] = (int(curve.event_table["observed"].sum()), round(float(curve.survival_function_.iloc[-1, 0]), 2), round(float(p), 2))
    print(f"status {name}: {seen[name][0]} events, survival {seen[name][1]:.2f} at the end, log-rank p {seen[name][2]:.2f}")
as_seen = seen == {"1 and 2": (6, 0.0, 0.34), "0 and 1": (3, 0.3, 0.67)}
sys.exit(0 if as_seen else "lifelines now takes a status of 1 and 2 otherwise: look again")
PYTHON
