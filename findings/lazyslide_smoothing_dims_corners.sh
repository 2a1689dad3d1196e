#!/usr/bin/env bash
# Versions   lazyslide 0.13.0, wsidata 0.12.0, torch 2.13.0, torchvision 0.28.0, anndata 0.12.19, scipy 1.17.1, tifffile 2026.3.3,
#            numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  tl.spatial_features smooths the features of a slide over its graph of tiles. It divides each row of the graph by the
#            number of tiles in the row, as for a mean over a tile and its neighbours, and then multiplies by columns. So a
#            neighbour is divided by the number of its own neighbours, and the weights of a tile do not sum to one. Tiles in
#            corners get smaller, tiles beside the edge of the tissue larger. There is no error and no warning. The documented
#            next step, tl.spatial_domain, clusters these features.
# A guess    would be a mean: a feature that is the same in all tiles stays what it is, and a probability stays below 1.
# Seen       8 x 8 tiles of one slide, a feature of 1 in all of them
#            corner 0.833, beside a corner 1.033, edge 0.950, one row further in 1.050, its corners 1.100, middle 1.000
#            the mean over a tile and its neighbours, from the same graph by hand: 1.000 for all
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lazyslide==0.13.0 wsidata==0.12.0 torch==2.13.0 \
    torchvision==0.28.0 anndata==0.12.19 scipy==1.17.1 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import lazyslide
import numpy as np
import tifffile
from wsidata import open_wsi
from wsidata.io import add_features

path = Path(sys.argv[1]) / "slide.tif"
picture = np.full((512, 512, 3), 200, np.uint8)
tifffile.imwrite(
    path, picture, tile=(256, 256), photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER")

slide = open_wsi(path, store=None)
lazyslide.pp.tile_tissues(slide, 64, tissue_key=None)
lazyslide.pp.tile_graph(slide)
tiles = slide["tiles"].bounds
features = np.ones((len(tiles), 1), np.float32)
add_features(slide, "constant", tile_key="tiles", features=features)
lazyslide.tl.spatial_features(slide, "constant")
smoothed = np.asarray(slide.tables["constant"].layers["spatial_features"])

graph = slide["tiles_graph"].obsp["spatial_connectivities"].toarray() + np.eye(len(tiles))
by_hand = graph @ features / graph.sum(axis=1, keepdims=True)
grid = smoothed[np.lexsort((tiles["minx"], tiles["miny"])), 0].reshape(8, 8).round(3)
print(f"first four of the rows of tiles 1 to 3:\n{grid[:3, :4]}")
print(f"the mean of a tile and its neighbours: {by_hand.min():.3f} to {by_hand.max():.3f}")
places = [float(grid[place]) for place in ((0, 0), (0, 1), (0, 3), (1, 3), (1, 1), (3, 3))]
as_seen = places == [0.833, 1.033, 0.95, 1.05, 1.1, 1.0] and bool(np.allclose(by_hand, 1))
sys.exit(0 if as_seen else "lazyslide now smooths otherwise: look again")
PYTHON
