#!/usr/bin/env bash
# Versions   monai 1.6.1, torch 2.13.0, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  The FROC score is the mean sensitivity at 0.25 to 8 false alarms per slide. compute_froc_curve_data walks through all
#            probabilities and leaves out the lowest, as the code of CAMELYON16 does. There the lowest is the 0 of a lesion that
#            was missed. If no lesion was missed, it may be that of a found lesion, which then counts as missed whatever the
#            threshold. So a detector without a mistake never reaches 1, and gets 0 with one lesion. A false alarm that is less
#            sure than all lesions is left out in its place, and the score rises. There is no error and no warning.
# A guess    would be 1 for a detector that finds all and nothing else, and that a false alarm raises no score.
# Seen       one lesion found: 0.000. Three found: 0.667. Ten found: 0.900
#            three found with 0.9, 0.8 and 0.7, and a false alarm of 0.6: 1.000. By hand: 1.000 for each of these four
#            three of four found, where the lowest is that of the missed lesion: 0.750, by hand 0.750
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import warnings

import numpy as np
from monai.metrics import compute_fp_tp_probs, compute_froc_curve_data, compute_froc_score

ALARMS = (0.25, 0.5, 1, 2, 4, 8)


def froc(lesions, alarms):
    """Score of one slide: `lesions` are the probabilities of its lesions, None if missed, `alarms` those of false alarms."""
    truth = np.zeros((2, len(lesions) + len(alarms)), int)
    truth[0, : len(lesions)] = np.arange(1, len(lesions) + 1)  # a lesion has one pixel in the first row
    places = [(0, place) for place, lesion in enumerate(lesions) if lesion is not None]
    places += [(1, place) for place in range(len(alarms))]
    found = np.array([lesion for lesion in lesions if lesion is not None] + list(alarms), np.float32)
    rows, columns = np.array(places).T
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none comes
        false, true, targets = compute_fp_tp_probs(found, rows, columns, truth)
        return compute_froc_score(*compute_froc_curve_data(false, true, targets, num_images=1), ALARMS)


def by_hand(lesions, alarms):
    """Mean over ALARMS of the largest share of lesions that is found with at most so many false alarms."""
    known = [lesion for lesion in lesions if lesion is not None]
    points = [(sum(a >= t for a in alarms), sum(lesion >= t for lesion in known) / len(lesions)) for t in [*known, *alarms]]
    return float(np.mean([max((share for false, share in points if false <= most), default=0.0) for most in ALARMS]))


slides = {
    "one lesion found": ([0.9], []), "three found": ([0.9, 0.8, 0.7], []), "ten found": (np.linspace(0.5, 0.9, 10).tolist(), []),
    "three found, a false alarm of 0.6": ([0.9, 0.8, 0.7], [0.6]), "three of four found": ([0.9, 0.8, 0.7, None], [])}
seen = {name: (froc(*slide), by_hand(*slide)) for name, slide in slides.items()}
for name, (score, ours) in seen.items():
    print(f"{name}: {score:.3f}, by hand {ours:.3f}")
expected = ((0, 1), (2 / 3, 1), (0.9, 1), (1, 1), (0.75, 0.75))
as_seen = np.allclose(list(seen.values()), expected)
sys.exit(0 if as_seen else "monai now scores found lesions otherwise: look again")
PYTHON
