#!/usr/bin/env bash
# Versions   wsidicom 0.31.0, wsidicomizer 0.26.1, openslide-python 1.4.7 with openslide-bin 4.0.1.2, tifffile 2026.3.3,
#            numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  read_region(location, level, size) of wsidicom has the name and the arguments of OpenSlide's. Two of the three mean
#            something else. The location counts pixels of the level that is read, where OpenSlide's counts pixels of level 0. A
#            level is a power of two: in a slide whose second image is four times smaller, level 2 is that image, and level 1 is
#            computed from level 0. Both libraries open the same files and answer without an error and without a warning.
# A guess    would be the same region from the same call: these three arguments agree to the letter.
# Seen       read_region((400, 208), level, (64, 64)) of one DICOM slide with two images, 1024 x 768 and 256 x 192
#            level 0: both begin at (400, 208), one pixel is one of level 0
#            level 1: OpenSlide begins at (400, 208), four of level 0; wsidicom at (800, 416), two of level 0
# Exits 0 while the libraries behave so, and 1 if they do not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check wsidicom==0.31.0 wsidicomizer==0.26.1 openslide-python==1.4.7 \
    openslide-bin==4.0.1.2 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import openslide
import tifffile
from wsidicom import WsiDicom
from wsidicomizer import WsiDicomizer

folder = Path(sys.argv[1])
across, down = np.meshgrid(np.arange(1024), np.arange(768))
slide = np.stack([across // 4, down // 4, np.full_like(across, 128)], axis=-1).astype(np.uint8)  # a pixel tells where it lies
with tifffile.TiffWriter(folder / "slide.tif") as file:
    for downsample in (1, 4):
        file.write(slide[downsample // 2 :: downsample, downsample // 2 :: downsample], tile=(256, 256), photometric="rgb",
                   resolution=(40000 / downsample, 40000 / downsample), resolutionunit="CENTIMETER",
                   subfiletype=int(downsample > 1))
with WsiDicomizer.open(folder / "slide.tif") as converted:
    converted.save(folder / "dicom")


def place_of(region):
    """Where a region begins, to the next 16, and the edge of its pixels, both in pixels of level 0."""
    places = np.asarray(region)[..., :2].astype(float) * 4
    edge = round(float((places[32:].mean((0, 1)) - places[:32].mean((0, 1)))[1] / 32))
    return tuple(int(round(middle / 16 - 2 * edge) * 16) for middle in places.mean((0, 1))), edge


by_openslide = openslide.OpenSlide(next((folder / "dicom").iterdir()))
seen = {}
with WsiDicom.open(folder / "dicom") as by_wsidicom:
    for level in (0, 1):
        for name, library in (("OpenSlide", by_openslide), ("wsidicom", by_wsidicom)):
            seen[name, level] = place_of(library.read_region((400, 208), level, (64, 64)))
            print(f"level {level}, {name}: begins at {seen[name, level][0]}, one pixel is {seen[name, level][1]} of level 0")
as_seen = seen == {
    ("OpenSlide", 0): ((400, 208), 1), ("wsidicom", 0): ((400, 208), 1),
    ("OpenSlide", 1): ((400, 208), 4), ("wsidicom", 1): ((800, 416), 2)}
sys.exit(0 if as_seen else "the libraries now read regions otherwise: look again")
PYTHON
