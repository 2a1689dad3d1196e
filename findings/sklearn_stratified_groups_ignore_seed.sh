#!/usr/bin/env bash
# Versions   scikit-learn 1.9.1, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  StratifiedGroupKFold(shuffle=True) shuffles patients, then sorts them by how uneven their labels are, and deals
#            them out in that order. With rows of one label per patient, that is the number of rows. So if patients differ in
#            their number of slides or patches, every random_state gives the same folds, and a repeated cross-validation repeats
#            one split. Its spread over repeats is zero. Patients with the same number of rows are shuffled. No warning.
# A guess    would be other folds for another random_state, as with StratifiedKFold and GroupKFold.
# Seen       60 patients, five folds, seeds 0 to 4: how many of the folds of seed 0 each seed gives again
#            two slides per patient: 5, 0, 0, 0, 0. 1 to 60 patches per patient: 5, 5, 5, 5, 5
#            GroupKFold(shuffle=True), 1 to 60 patches per patient: 5, 0, 0, 0, 0
# Known as   the documentation: only groups with about the same distribution of classes are shuffled
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

warnings.simplefilter("error")  # none comes

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

PATIENTS, SEEDS = 60, range(5)


def folds(splitter, rows_of_patient, seed):
    """The patients of each of five folds."""
    patient = np.repeat(np.arange(PATIENTS), rows_of_patient)
    label = patient % 2
    sides = splitter(5, shuffle=True, random_state=seed).split(patient, label, patient)
    return {frozenset(patient[test].tolist()) for _, test in sides}


two_slides, patches = np.full(PATIENTS, 2), np.arange(1, PATIENTS + 1)
seen = []
for name, splitter, rows in (
    ("two slides per patient", StratifiedGroupKFold, two_slides),
    ("1 to 60 patches per patient", StratifiedGroupKFold, patches),
    ("1 to 60 patches per patient", GroupKFold, patches),
):
    of_first = folds(splitter, rows, 0)
    again = [len(of_first & folds(splitter, rows, seed)) for seed in SEEDS]
    seen.append(again)
    print(f"{splitter.__name__}, {name}: {again}")
moves = [5, 0, 0, 0, 0]
sys.exit(0 if seen == [moves, [5] * 5, moves] else "scikit-learn now shuffles groups otherwise: look again")
PYTHON
