#!/usr/bin/env bash
# Versions   statsmodels 0.15.0, pandas 2.3.3, numpy 2.4.6, krippendorff 0.9.0 (public packages from PyPI, without milbench)
# Behaviour  aggregate_raters takes an empty cell of a table of grades for one more grade. Raters who both left a slide empty
#            then agree about it, and fleiss_kappa rises with every slide that nobody could grade. A cell that one rater left
#            empty is a disagreement, and kappa falls. The second value that aggregate_raters returns lists nan as a
#            grade; the first one, which fleiss_kappa takes, does not tell. There is no error and no warning.
# A guess    would be an error or a kappa of the slides with grades: fleiss_kappa needs as many grades of each slide, its
#            documentation says to make its table by aggregate_raters, and an empty cell of pandas is a missing value.
# Seen       three pathologists grade 100 slides from 1 to 3
#            30 slides are out of focus, and nobody grades them: kappa 0.508, of the 70 graded slides alone 0.209
#            each pathologist leaves out 30 slides of their own: kappa 0.123; Krippendorff's alpha, which knows missing values, 0.186
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0 pandas==2.3.3 numpy==2.4.6 krippendorff==0.9.0
"$folder/venv/bin/python" - "$folder/grades.csv" <<'PYTHON'
import sys
import warnings

import krippendorff
import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

warnings.simplefilter("error")  # none comes
SLIDES, PATHOLOGISTS, LEFT_OUT = 100, ["first", "second", "third"], 30


def as_read(grades, missing):
    """The grades as pandas reads them from a table with empty cells."""
    pd.DataFrame(grades, columns=PATHOLOGISTS).astype("Int64").mask(missing).to_csv(sys.argv[1], index=False)
    return pd.read_csv(sys.argv[1])


def kappa(table):
    """Fleiss' kappa as the documentation says, and what counted as a grade."""
    counts, levels = aggregate_raters(table)
    return fleiss_kappa(counts), levels


random = np.random.default_rng(0)
truth = random.integers(1, 4, (SLIDES, 1))
right = random.random((SLIDES, len(PATHOLOGISTS))) < 0.5
grades = np.where(right, truth, random.integers(1, 4, right.shape))
out_of_focus = np.repeat(np.arange(SLIDES)[:, None] < LEFT_OUT, len(PATHOLOGISTS), axis=1)
own = np.stack([random.permutation(SLIDES) < LEFT_OUT for _ in PATHOLOGISTS], axis=1)

unseen = as_read(grades, out_of_focus)
by_all, levels = kappa(unseen)
of_graded, levels_of_graded = kappa(unseen.dropna())
print(f"{LEFT_OUT} slides that nobody graded: kappa {by_all:.3f}, of the others alone {of_graded:.3f}")
print("grades:", *levels, "and without these slides:", *levels_of_graded)
scattered = as_read(grades, own)
by_some, _ = kappa(scattered)
alpha = krippendorff.alpha(scattered.to_numpy().T, level_of_measurement="nominal")
print(f"{LEFT_OUT} cells per pathologist empty: kappa {by_some:.3f}, Krippendorff's alpha {alpha:.3f}")
as_seen = (
    by_all > of_graded + 0.2 and by_some < alpha - 0.05 and len(levels) == 4 and np.isnan(levels[-1])
    and list(levels_of_graded) == [1, 2, 3])
sys.exit(0 if as_seen else "statsmodels now takes empty cells otherwise: look again")
PYTHON
