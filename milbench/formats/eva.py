"""kaiko-eva (0.4.5): `OUT/manifest.csv` and, per slide, `OUT/{folder}/{slide}.pt` with a list of one tensor [D] per patch.

The manifest's columns are `origin, embeddings, target, split`, then metadata; `embeddings` is the file, relative to OUT.
No coordinates and no encoder are stored. Every `save_every_n` patches (100 unless told otherwise) what came since is put
in front of what the file held, so that blocks of patches stand in reverse. Where a block ends is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from milbench.formats import SlideFeatures, SlideHeader
from milbench.formats.shapes import as_bag, bag_shape
from milbench.formats.tensors import open_list
from milbench.formats.unchanged import once_per_content
from milbench.special_files import special_kind

NAME, MANIFEST = "kaiko-eva", "manifest.csv"
COLUMNS = b"origin,embeddings,"
ORDER = "kaiko-eva stores a slide's patches in blocks, the last block first"


def recognises(folders: Sequence[Path]) -> bool:
    """Whether kaiko-eva's manifest lies in one of the folders."""
    return any(_is_manifest(folder / MANIFEST) for folder in folders)


def _is_manifest(path: Path) -> bool:
    if not path.is_file() or special_kind(path):
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(COLUMNS)) == COLUMNS
    except OSError:
        return False


def read(path: Path) -> SlideFeatures:
    """Features [N, D] of one file, in the order of the file."""
    patches = [patch.detach().resolve_neg() for patch in open_list(path)]
    return SlideFeatures(as_bag(path, torch.stack(patches) if patches else torch.empty(0)))


@once_per_content
def head(path: Path) -> SlideHeader:
    """Sizes of one file, whose numbers are not read."""
    patches = open_list(path)
    if not patches:
        return SlideHeader(0, 0, "float32")
    n_patches, width = bag_shape(path, (len(patches), *patches[0].shape))
    order = ORDER if n_patches > 1 else ""
    return SlideHeader(n_patches, width, str(patches[0].dtype).removeprefix("torch."), order_problem=order)
