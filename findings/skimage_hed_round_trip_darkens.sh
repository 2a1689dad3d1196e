#!/usr/bin/env bash
# Versions   scikit-image 0.26.0, numpy 2.3.5 (public packages from PyPI, without milbench)
# Behaviour  rgb2hed splits a colour into haematoxylin, eosin and DAB, and hed2rgb puts them together. A stain that comes out below
#            zero is set to zero in between, so a colour that is no mixture of the three comes back as another one.
#            There is no error and no warning. Stain augmentation goes this way for every patch, whatever its strength.
# A guess    would be that the two undo each other except for rounding: the matrix of stains has an inverse.
# Seen       nucleus         (90, 60, 140) -> (90, 60, 140)
#            eosin           (230, 150, 190) -> (227, 148, 189)
#            red blood cell  (190, 50, 60) -> (144, 37, 53)
#            blue ink        (40, 60, 200) -> (31, 26, 100)
# Known as   scikit-image/scikit-image issue 6104, closed: the clipping is wanted
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 numpy==2.3.5
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from skimage.color import hed2rgb, rgb2hed

COLOURS = {
    "nucleus": (90, 60, 140),
    "eosin": (230, 150, 190),
    "red blood cell": (190, 50, 60),
    "blue ink": (40, 60, 200),
}
farthest = {}
for name, colour in COLOURS.items():
    pixel = np.array([[colour]], dtype=np.uint8)
    back = np.rint(hed2rgb(rgb2hed(pixel)) * 255).astype(int)[0, 0]
    farthest[name] = int(np.abs(back - colour).max())
    print(f"{name:15} {colour} -> {tuple(back.tolist())}")
as_seen = farthest["nucleus"] <= 1 and 2 <= farthest["eosin"] <= 5 and min(farthest["red blood cell"], farthest["blue ink"]) > 40
sys.exit(0 if as_seen else "scikit-image now takes colours there and back otherwise: look again")
PYTHON
