"""Which layout a folder has, from the names in it and the contents of its first readable files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from milbench.errors import FeatureFileError
from milbench.formats import (
    FeatureFolder,
    SlideFeatures,
    SlideHeader,
    arrays,
    clam,
    hdf5,
    packed,
    slideflow,
    stamp,
    tensors,
    torchmil,
    trident,
)

HDF5_FORMATS = (stamp, trident, clam)
"""In the order in which they are asked: each knows a file by what the later ones would overlook."""

PLACES = (
    ("", packed.SUFFIX),
    ("h5_files", ".h5"),
    ("", ".h5"),
    ("pt_files", ".pt"),
    ("", ".pt"),
    ("", ".npy"),
    ("", ".npz"),
)
"""Where features may lie, best first: packs are made to be read, HDF5 has coordinates and a header that tells its size."""

SAMPLE = 5
"""Files that are opened to recognise a layout: the first may be the broken one."""


class Layout(NamedTuple):
    """A recognised layout: its name, why, and how to read a file of it."""

    name: str
    evidence: str
    read: Callable[[Path], SlideFeatures]
    head: Callable[[Path], SlideHeader]


class Place(NamedTuple):
    """Files of one kind in one folder."""

    folder: Path
    suffix: str
    paths: Mapping[str, Path]


def recognise(folder: Path) -> FeatureFolder:
    """The reader for the files in `folder`.

    Raises
    ------
    FeatureFileError : nothing that a reader knows, or several of TRIDENT's encoders to choose from.
    """
    found = _places(folder) or _places(_trident_features(folder))
    if not found:
        raise FeatureFileError(
            f"{folder} holds no features that milbench knows. Looked for: {{slide}}.h5 (CLAM, TRIDENT, STAMP, torchmil), "
            "{slide}.pt (CLAM, slideflow, TRIDENT), {slide}.npy, {slide}.npz, {slide}.safetensors; also in h5_files/, pt_files/ and "
            "TRIDENT's features_{encoder}/."
        )
    best = found[0]
    layout = LAYOUTS[best.suffix](best)
    text = f"{layout.name}: {len(best.paths)} {best.suffix} files in {best.folder} ({layout.evidence})"
    if len(found) > 1:
        text += f", preferred over {len(found[1].paths)} {found[1].suffix} files: packs first, then HDF5, then CLAM's own subfolders"
    return FeatureFolder(text, best.paths, layout.read, layout.head)


def _places(folder: Path) -> list[Place]:
    found = [Place(folder / sub, suffix, _by_slide(folder / sub, suffix)) for sub, suffix in PLACES]
    return [place for place in found if place.paths]


def _by_slide(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        path.name.removesuffix(suffix): path
        for path in sorted(folder.glob(f"*{suffix}"))
        if not path.name.startswith(".") and not path.name.endswith(slideflow.INDEX)
    }


def _trident_features(folder: Path) -> Path:
    """The one `features_{encoder}` below TRIDENT's job folder, or `folder` itself."""
    inside = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern))]
    found = [path for path in inside if path.is_dir() and trident.FOLDER.match(path.name) and _places(path)]
    if len(found) > 1:
        raise FeatureFileError(
            f"{folder} holds several extractions: {', '.join(str(path.relative_to(folder)) for path in found)}. "
            "Point `features:` to one of them."
        )
    return found[0] if found else folder


def _h5_layout(place: Place) -> Layout:
    name, evidence = clam, "no readable file to tell by"
    for path in _sample(place):
        try:
            with hdf5.opened(path) as file:
                name = next((layout for layout in HDF5_FORMATS if layout.recognises(path, file)), clam)
                alone = "coords" not in file
                evidence = f"{path.name} holds {', '.join(file) or 'nothing'}"
        except FeatureFileError:
            continue
        if name is clam and alone and torchmil.recognises(place.folder, ".h5"):
            return _torchmil(place)
        break
    return Layout(name.NAME, evidence, partial(hdf5.read, describe=name.describe), partial(hdf5.head, describe=name.describe))  # fmt: skip


def _pt_layout(place: Place) -> Layout:
    if slideflow.recognises(place.folder):
        return Layout(slideflow.NAME, "its index or bags_config.json lies beside", slideflow.read, slideflow.head)
    kind = ""
    for path in _sample(place):
        try:
            kind = tensors.open_pt(path).kind
            break
        except FeatureFileError:
            continue
    if kind == "array" or trident.FOLDER.match(place.folder.name):
        return Layout(trident.NAME, "NumPy arrays saved by torch", tensors.read, trident.head_pt)
    if kind == "dict":
        return Layout("dict of tensors", "keys features or feats", tensors.read, tensors.head)
    return Layout(clam.NAME, "one tensor a slide", tensors.read, tensors.head)


def _packed_layout(place: Place) -> Layout:
    marked = False
    for path in _sample(place):
        try:
            with packed.opened(path) as file:
                marked = bool(packed.facts(file))
                break
        except FeatureFileError:
            continue
    name = packed.NAME if marked else "safetensors"
    return Layout(name, "one file a slide", packed.read, packed.head)


def _npy_layout(place: Place) -> Layout:
    if torchmil.recognises(place.folder, ".npy"):
        return _torchmil(place)
    return Layout("NumPy", "one array a slide", arrays.read_npy, arrays.head_npy)


def _npz_layout(place: Place) -> Layout:
    return Layout("NumPy", "named arrays", arrays.read_npz, arrays.head_npz)


def _torchmil(place: Place) -> Layout:
    beside = [name for name in torchmil.BESIDE if (place.folder.parent / name).is_dir()]
    return Layout(torchmil.NAME, f"beside {', '.join(beside)}", torchmil.read, torchmil.head)


def _sample(place: Place) -> list[Path]:
    return list(place.paths.values())[:SAMPLE]


LAYOUTS: Mapping[str, Callable[[Place], Layout]] = {
    packed.SUFFIX: _packed_layout, ".h5": _h5_layout, ".pt": _pt_layout, ".npy": _npy_layout, ".npz": _npz_layout,
}  # fmt: skip
