#!/usr/bin/env bash
# Versions   tifffile 2026.3.3, imagecodecs 2026.3.6, tiffslide 3.0.1, openslide-python 1.4.7 with openslide-bin 4.0.1.2,
#            numpy 2.4.6 (public packages from PyPI, without milbench)
# Behaviour  Aperio scanners write JPEG 2000 in two kinds. Compression 33005 holds RGB, and 33003 holds YCbCr, with a photometric
#            tag of RGB in both. OpenSlide converts 33003. tifffile, which knows the two apart by name, hands out Y, Cb and Cr as
#            red, green and blue. So does tiffslide, which is made to stand in for OpenSlide. Glass becomes pink, so that a
#            threshold of colour finds tissue everywhere. There is no error and no warning.
# A guess    would be the same colours from all libraries, for both kinds.
# Seen       glass (245, 245, 245) and eosin (230, 150, 190), lossless
#            33005: OpenSlide and tiffslide (245, 245, 245) and (230, 150, 190)
#            33003: OpenSlide (245, 245, 245) and (230, 149, 190), tiffslide and tifffile (245, 128, 128) and (178, 135, 165)
#            share of pixels with a saturation above 0.1, of a slide that is half glass: OpenSlide 0.50, tiffslide 1.00
# Known as   NKI-AI/fastslide issue 11, closed, and openslide/openslide issue 772, open, for other programs
# Exits 0 while the libraries behave so, and 1 if they do not any more.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tifffile==2026.3.3 imagecodecs==2026.3.6 tiffslide==3.0.1 \
    openslide-python==1.4.7 openslide-bin==4.0.1.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import tifffile
import tiffslide

folder = Path(sys.argv[1])
GLASS, EOSIN = (245, 245, 245), (230, 150, 190)
slide = np.empty((512, 512, 3), np.uint8)
slide[:, :256], slide[:, 256:] = GLASS, EOSIN


def ycbcr(rgb):
    """The conversion of JPEG, rounded."""
    red, green, blue = np.moveaxis(rgb.astype(float), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, (blue - luma) / 1.772 + 128, (red - luma) / 1.402 + 128], axis=-1).round().astype(np.uint8)


def written(name, compression, pixels, kind):
    tiles = [
        imagecodecs.jpeg2k_encode(pixels[y : y + 256, x : x + 256].copy(), level=0, mct=False, codecformat="j2k")
        for y in (0, 256) for x in (0, 256)]
    with tifffile.TiffWriter(folder / name) as file:
        file.write(
            iter(tiles), shape=pixels.shape, dtype="uint8", tile=(256, 256), photometric="rgb", compression=compression,
            description=f"Aperio Image Library v11.2.1\r\n512x512 (256x256) J2K/{kind} Q=70|AppMag = 40|MPP = 0.25", metadata=None)
    return str(folder / name)


def glass_and_eosin(picture):
    """Colours of the two halves, and the share of pixels with a saturation above 0.1."""
    pixels = np.asarray(picture).astype(int)[..., :3]
    bright = pixels.max(axis=-1)
    saturated = ((bright - pixels.min(axis=-1)) / bright > 0.1).mean()
    return tuple(pixels[100, 100].tolist()), tuple(pixels[100, 400].tolist()), float(saturated)


seen = {}
for compression, kind, pixels in ((33005, "KDU", slide), (33003, "YUV16", ycbcr(slide))):
    path = written(f"{compression}.svs", compression, pixels, kind)
    with openslide.OpenSlide(path) as by_openslide, tiffslide.TiffSlide(path) as by_tiffslide:
        for name, library in (("OpenSlide", by_openslide), ("tiffslide", by_tiffslide)):
            assert library.properties["tiffslide.vendor" if name == "tiffslide" else "openslide.vendor"] == "aperio"
            seen[compression, name] = glass_and_eosin(library.read_region((0, 0), 0, (512, 512)))
    seen[compression, "tifffile"] = glass_and_eosin(tifffile.imread(path))
for (compression, name), (glass, eosin, saturated) in seen.items():
    print(f"{compression}, {name}: glass {glass}, eosin {eosin}, saturated {saturated:.2f}")


def is_close(first, second):
    return all(abs(a - b) <= 2 for a, b in zip(first[0] + first[1], second[0] + second[1], strict=True))


true, luma_first = (GLASS, EOSIN, 0.5), (tuple(ycbcr(np.array(GLASS)).tolist()), tuple(ycbcr(np.array(EOSIN)).tolist()), 1.0)
as_seen = (
    all(is_close(seen[33005, name], true) for name in ("OpenSlide", "tiffslide", "tifffile"))
    and is_close(seen[33003, "OpenSlide"], true)
    and all(is_close(seen[33003, name], luma_first) and seen[33003, name][2] == 1 for name in ("tiffslide", "tifffile")))
sys.exit(0 if as_seen else "the libraries now read JPEG 2000 of Aperio otherwise: look again")
PYTHON
