#!/usr/bin/env bash
# Versions   openslide-python 1.4.7 with openslide-bin 4.0.1.2, tifffile 2026.3.3, numpy 2.4.6 (public packages from PyPI,
#            without milbench)
# Behaviour  get_best_level_for_downsample(4) is the last level whose downsample is not above 4. The downsample is a quotient of
#            sizes in pixels, and the size of a level is rounded down. So a slide whose width is no multiple of four has a
#            second level of 4.002, and the best level for 4 is level 0: pixels four times smaller than those of the next slide.
#            There is no error and no warning. Who reads 256 pixels of the best level gets a sixteenth of the tissue.
# A guess    would be the level that was made for 4 in both: it is 0.06 % off.
# Seen       two slides, each with a level of a quarter of its size
#            4000 x 3000 and 1000 x 750: downsample 4.0, best level for 4 is level 1
#            3998 x 2998 and 999 x 749: downsample 4.002336114485647, best level for 4 is level 0
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openslide-python==1.4.7 openslide-bin==4.0.1.2 \
    tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import openslide
import tifffile

folder = Path(sys.argv[1])
seen = []
for width, height in ((4000, 3000), (3998, 2998)):
    with tifffile.TiffWriter(folder / f"{width}.tif") as file:
        for size in ((height, width), (height // 4, width // 4)):
            file.write(np.full((*size, 3), 200, np.uint8), tile=(256, 256), photometric="rgb", subfiletype=int(size[1] < width))
    with openslide.OpenSlide(folder / f"{width}.tif") as slide:
        best = slide.get_best_level_for_downsample(4)
        sizes = " and ".join(f"{across} x {down}" for across, down in slide.level_dimensions)
        print(f"{sizes}: downsample {slide.level_downsamples[1]}, best level for 4 is level {best}")
        seen.append(best)
sys.exit(0 if seen == [1, 0] else "OpenSlide now picks the best level otherwise: look again")
PYTHON
