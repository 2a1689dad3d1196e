#!/usr/bin/env bash
# Versions   torchstain 1.4.1, numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  Macenko's method looks for two stains in the pixels of the tissue. The normaliser drops a pixel as transparent if any
#            channel is bright, not if all are: red above 205 is enough, with the default beta of 0.15. Pale eosin is bright in
#            red, so all pink tissue is dropped, and both stains are looked for in the nuclei. The two that are found are shades of
#            one purple. The picture that comes back shows pink tissue as white as glass. There is no error and no warning.
#            A darker pink keeps its pixels and its colour. beta=0.05 makes this picture right.
# A guess    would be that glass is dropped, which is bright in all channels, and that pink tissue stays pink.
# Seen       a patch of nuclei (90, 60, 140), glass (243, 242, 243) and pink tissue, normalised to torchstain's own reference
#            pink (230, 150, 190): pink becomes (255, 255, 255), nuclei (134, 105, 146)
#            pink (200, 120, 170): pink becomes (199, 125, 153), nuclei (99, 74, 122)
#            pink (230, 150, 190), beta=0.05: pink becomes (203, 129, 155), nuclei (99, 73, 120)
# Known as   rapidsai/cucim pull request 316, which mends the same in cuCIM; none found for torchstain
# Exits 0 while the library behaves so, and 1 if it does not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchstain==1.4.1 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import numpy as np
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

NUCLEUS, GLASS = (90, 60, 140), (243, 242, 243)


def patch(pink):
    """A patch with 30 % nuclei, 50 % pink tissue and 20 % glass, each pixel stained up to half more or less, and what it is made of."""
    generator = np.random.default_rng(0)
    kind = generator.choice(3, (128, 128), p=(0.3, 0.5, 0.2))
    density = -np.log(np.array([NUCLEUS, pink, GLASS]) / 245)[kind]
    density *= np.clip(generator.normal(1, 0.15, (128, 128, 1)), 0.5, 1.5)
    colours = 245 * np.exp(-density) + generator.normal(0, 1.5, density.shape)
    return np.clip(colours.round(), 0, 255).astype(np.uint8), kind


def colour(picture, where):
    return tuple(int(value) for value in picture[where].mean(axis=0).round())


seen = {}
for pink, beta in (((230, 150, 190), 0.15), ((200, 120, 170), 0.15), ((230, 150, 190), 0.05)):
    picture, kind = patch(pink)
    normalised, _, _ = NumpyMacenkoNormalizer().normalize(picture, beta=beta)
    seen[pink, beta] = colour(normalised, kind == 1)
    print(f"pink {pink}, beta={beta}: pink becomes {seen[pink, beta]}, nuclei {colour(normalised, kind == 0)}")

bleached = min(seen[(230, 150, 190), 0.15]) > 250
kept = max(max(seen[(200, 120, 170), 0.15]), max(seen[(230, 150, 190), 0.05])) < 215
sys.exit(0 if bleached and kept else "torchstain now keeps pale eosin: look again")
PYTHON
