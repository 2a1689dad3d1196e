#!/usr/bin/env bash
# Versions   monai 1.6.1, torch 2.13.0, scipy 1.17.1, scikit-image 0.26.0, openslide-python 1.4.7 with openslide-bin 4.0.1.2,
#            tifffile 2026.3.3, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  LesionFROC reads a slide's mask of tumour at a level, and takes each level for half the size of the one before. It
#            never looks at the sizes, which the file tells. In a file whose levels are quarters, as those of Aperio, a
#            pixel of level 2 measures 16 of level 0, and is taken for 4. So tumours grow by four times the distance that is
#            asked for, those that are far apart become one lesion, and a lesion is dropped as isolated cells up to four times
#            the size. There is no error and no warning.
# A guess    would be the same score for the same mask: at both levels the same pixels are read.
# Seen       three lesions of 0.4 mm, 0.2 mm apart, one found and a false alarm. The same mask of 288 x 288 pixels of 4 µm
#            level 4 of a file with halves: 3 lesions, score 0.333. Level 2 of one with quarters: 1 lesion, score 1.000
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 scipy==1.17.1 scikit-image==0.26.0 \
    openslide-python==1.4.7 openslide-bin==4.0.1.2 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import tifffile
from monai.apps.pathology.metrics import LesionFROC
from monai.data import WSIReader

folder = Path(sys.argv[1])
MICRONS, DOWNSAMPLE = 0.25, 16
LESIONS = ((200, 200), (200, 2600), (2600, 1400))  # top left corners, in pixels of level 0
EDGE = 1600
tumour = np.zeros((4608, 4608), np.uint8)
for top, left in LESIONS:
    tumour[top : top + EDGE, left : left + EDGE] = 1
probabilities = np.zeros((288, 288), np.float32)
probabilities[(200 + EDGE // 2) // DOWNSAMPLE, (200 + EDGE // 2) // DOWNSAMPLE] = 0.9  # the first lesion
probabilities[250, 20] = 0.6  # no lesion
np.save(folder / "probabilities.npy", probabilities)


def written(name, downsamples):
    with tifffile.TiffWriter(folder / name) as file:
        for downsample in downsamples:
            level = tumour[downsample // 2 :: downsample, downsample // 2 :: downsample]
            file.write(np.dstack([level] * 3), tile=(256, 256), photometric="rgb", subfiletype=int(downsample > 1))
    return str(folder / name)


reader = WSIReader(backend="openslide")
seen, masks = {}, []
for name, path, level in (
    ("halves", written("halves.tif", (1, 2, 4, 8, 16)), 4), ("quarters", written("quarters.tif", (1, 4, 16)), 2)
):
    sample = {"prob_map": str(folder / "probabilities.npy"), "tumor_mask": path, "level": level, "pixel_spacing": MICRONS}
    froc = LesionFROC([sample], image_reader_name="openslide")
    lesions = froc.compute_fp_tp()[2]
    seen[name] = lesions, froc.evaluate()
    slide = reader.read(path)
    masks.append(reader.get_data(slide, level=level)[0])
    downsample = reader.get_downsample_ratio(slide, level)
    print(f"{name}: level {level}, downsample {downsample:g}, lesions {lesions}, score {seen[name][1]:.3f}")
as_seen = (
    np.array_equal(*masks) and seen["halves"][0] == len(LESIONS) and seen["quarters"][0] == 1
    and np.allclose([score for _, score in seen.values()], (1 / 3, 1)))
sys.exit(0 if as_seen else "monai now takes levels otherwise: look again")
PYTHON
