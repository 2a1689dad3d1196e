#!/usr/bin/env bash
# Versions   torchmil 1.0.2, torch 2.13.0, h5py 3.16.0 (public packages from PyPI, without milbench)
# Behaviour  TridentWSIDataset builds a graph of patches from TRIDENT's coordinates, which count pixels of level 0. It divides them by
#            patch_size, the size of a patch as it was cut, and does not read patch_size_level0, which TRIDENT stores beside
#            them. So if patches of 256 pixels at 20x come from a slide scanned at 40x, their neighbours are two steps
#            away, and the graph has no edge. There is no error and no warning. A slide scanned at 20x has its edges. With
#            the default of 512 it is the other way round: four patches of the 20x slide fall into one cell.
# A guess    would be the same graph for the same grid of patches, whatever the scanner.
# Seen       edges of a grid of 4 x 4 patches, where 84 are right
#            patch_size=256: 84 scanned at 20x, 0 scanned at 40x. patch_size=512: 240 scanned at 20x, 84 scanned at 40x
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmil==1.0.2 h5py==3.16.0
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import h5py
import numpy as np
from torchmil.datasets import TridentWSIDataset

folder = Path(sys.argv[1]) / "20x_256px_0px_overlap"
grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2)
for part in ("patches", "features_uni"):
    (folder / part).mkdir(parents=True)
for scanned_at, level0 in ((20, 256), (40, 512)):
    name = f"scanned at {scanned_at}x"
    with h5py.File(folder / "patches" / f"{name}_patches.h5", "w") as file:
        coords = file.create_dataset("coords", data=grid * level0)
        coords.attrs.update({"patch_size": 256, "patch_size_level0": level0})
        coords.attrs.update({"level0_magnification": scanned_at, "target_magnification": 20, "overlap": 0})
    with h5py.File(folder / "features_uni" / f"{name}.h5", "w") as file:
        file["features"] = np.ones((16, 8), np.float32)
(folder / "labels.csv").write_text("slide,label\nscanned at 20x,0\nscanned at 40x,1\n")

edges = {}
for patch_size in (256, 512):
    slides = TridentWSIDataset(
        f"{folder}/", f"{folder}/labels.csv", "uni", bag_keys=["X", "Y", "adj", "coords"], patch_size=patch_size,
        wsi_name_col="slide", wsi_label_col="label",
    )
    for name, bag in zip(slides.get_bag_names(), slides):
        edges[patch_size, name] = bag["adj"].coalesce().indices().shape[1]
        print(f"patch_size={patch_size}, {name}: {edges[patch_size, name]} edges")
as_seen = list(edges.values()) == [84, 0, 240, 84]
sys.exit(0 if as_seen else "torchmil now builds the graph of TRIDENT's patches otherwise: look again")
PYTHON
