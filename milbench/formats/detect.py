"""Which layout a folder has, from the names in it and the contents of its first readable files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from milbench.errors import FeatureFileError
from milbench.formats import (
    TABLE_MARK,
    FeatureFolder,
    SlideFeatures,
    SlideHeader,
    arrays,
    clam,
    eva,
    extracted,
    hdf5,
    owkin,
    packed,
    slideflow,
    stamp,
    tensors,
    tiatoolbox,
    torchmil,
    trident,
    wsidata,
    zarr_store,
)
from milbench.formats.declared import DeclaredFacts, declared_beside
from milbench.formats.opening import listed

HDF5_FORMATS = (extracted, stamp, trident, clam)
"""In the order in which they are asked: each knows a file by what the later ones would overlook."""

PLACES = (
    ("", packed.SUFFIX),
    ("h5_files", ".h5"),
    ("", ".h5"),
    ("pt_files", ".pt"),
    ("", ".pt"),
    ("", ".npy"),
    ("", ".npz"),
    ("", zarr_store.SUFFIX),
    ("", ".hdf5"),
    ("", ".pth"),
)
"""Where features may lie, best first: packs are made to be read, HDF5 has coordinates and a header that tells its size."""

SUFFIXES = tuple(dict.fromkeys(suffix for _, suffix in PLACES))
NOT_FEATURES = ("patches", "masks", "stitches", *torchmil.BESIDE)
"""Folders beside features, as CLAM, TRIDENT and torchmil call them, whose files end alike."""

OF_A_FOLDER = "features"
"""How Owkin calls each slide's file: the folder's name is the slide's."""

DEPTH = 3
"""Folders below the one that was named in which files are looked for: an encoder's, a site's, a slide's."""

SAMPLE = 5
"""Files that are opened to recognise a layout: the first may be the broken one."""


class Layout(NamedTuple):
    """A recognised layout: its name, why, and how to read a file of it; `table` is a part of each store, if it has several."""

    name: str
    evidence: str
    read: Callable[[Path], SlideFeatures]
    head: Callable[[Path], SlideHeader]
    read_anew: str = ""
    table: str = ""


class Place(NamedTuple):
    """Files of one kind in one folder, or in folders below it."""

    folder: Path
    suffix: str
    paths: Mapping[str, Path]
    below: str = ""
    named_table: str = ""

    @property
    def holder(self) -> Path:
        """The folder that holds the first file itself."""
        return next(iter(self.paths.values())).parent


def recognise(folder: Path, table: str = "") -> FeatureFolder:
    """The reader for the files in `folder`; where it holds none itself, for those in the folders below.

    Parameters
    ----------
    table : which table of each store is meant; empty = the only one.

    Raises
    ------
    FeatureFileError : nothing that a reader knows, or several extractions or tables to choose from.
    """
    _refuse_one_store(folder)
    found = _places(folder) or _places(_trident_features(folder)) or _below(folder)
    if not found:
        raise FeatureFileError(
            f"{folder} holds no features that milbench knows{_instead(folder)}. Looked for: {{slide}}.h5 or .hdf5 (CLAM, "
            "TRIDENT, STAMP, torchmil), {slide}.pt (CLAM, slideflow, TRIDENT, kaiko-eva), {slide}.npy (NumPy, Owkin), {slide}.npz, "
            "{slide}.zarr (wsidata, tiatoolbox), {slide}.safetensors; also in h5_files/, pt_files/, TRIDENT's "
            f"features_{{encoder}}/ and {DEPTH} folders deep."
        )
    if table:  # only stores have tables
        found = [place for place in found if place.suffix == zarr_store.SUFFIX] or found
    best = found[0]
    layout = LAYOUTS[best.suffix](best._replace(named_table=table))
    if table and not layout.table:
        raise FeatureFileError(
            f"{folder} holds {layout.name} files, which have no tables. Delete `{TABLE_MARK}{table}`."
        )
    kind = "stores" if best.suffix == zarr_store.SUFFIX else "files"
    text = f"{layout.name}: {len(best.paths)} {best.suffix} {kind} in {best.folder}{best.below} ({layout.evidence})"
    if len(found) > 1:
        text += f", preferred over {len(found[1].paths)} {found[1].suffix} files: packs first, then HDF5, then CLAM's own subfolders"
    paths = best.paths
    if layout.table:
        paths = {slide: wsidata.table_in(store, layout.table) for slide, store in paths.items()}
    return FeatureFolder(
        text,
        paths,
        layout.read,
        layout.head,
        best.folder,
        layout.read_anew,
        _declared(folder, best, paths),
        suffix=best.suffix,
        table=layout.table,
    )


def _declared(folder: Path, place: Place, paths: Mapping[str, Path]) -> dict[Path, DeclaredFacts]:
    """What is declared of the slides in each folder of `paths`: beside their files or stores, else above, else in the named folder."""
    above = next((found for each in (place.folder, folder) if (found := declared_beside(each)).source), None)
    holders = {paths[slide].parent: file.parent for slide, file in place.paths.items()}
    beside = {holder: declared_beside(holder) for holder in set(holders.values())}
    every = {key: beside[holder] if beside[holder].source else above for key, holder in holders.items()}
    return {key: found for key, found in every.items() if found is not None}


def _refuse_one_store(folder: Path) -> None:
    if folder.name.endswith(zarr_store.SUFFIX) and (wsidata.recognises(folder) or tiatoolbox.recognises(folder)):
        raise FeatureFileError(f"{folder} is the store of one slide. Name the folder that holds all slides' stores.")


def _places(folder: Path) -> list[Place]:
    found = [Place(folder / sub, suffix, _by_slide(folder / sub, suffix)) for sub, suffix in PLACES]
    return [place for place in found if place.paths]


def _by_slide(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*{suffix}")) if _is_features(path)}


def _is_features(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(slideflow.INDEXES)


# ---- folders below -------------------------------------------------------------------------------


def _below(folder: Path) -> list[Place]:
    """Files of the best kind in the folders below `folder`, at most one place.

    Raises
    ------
    FeatureFileError : two folders hold the same slides: they are extractions to choose from.
    """
    everything = files_below(folder, SUFFIXES)
    for suffix in SUFFIXES:
        files = [path for path in everything if path.name.endswith(suffix)]
        if files:
            names = sorted({str(path.parent.relative_to(folder)) for path in files})
            where = f", {len(names)} folders below it: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "")
            return [Place(folder, suffix, _one_per_slide(folder, files, suffix), where)]
    return []


def _one_per_slide(folder: Path, files: Sequence[Path], suffix: str) -> dict[str, Path]:
    """File by slide id: the file's name, or its folder's where all files are called alike, or one `features`."""
    slides = [path.name.removesuffix(suffix) for path in files]
    if len(set(slides)) == 1 and (len(files) > 1 or slides[0] == OF_A_FOLDER):
        slides = [path.parent.name for path in files]
    found: dict[str, Path] = {}
    for slide, path in zip(slides, files, strict=True):
        if slide in found:
            raise FeatureFileError(
                f"{folder} holds slide {slide} in {found[slide].parent.relative_to(folder)} and in "
                f"{path.parent.relative_to(folder)}. Point `features:` to the extraction that is meant."
            )
        found[slide] = path
    return found


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files and stores that end in one of `suffixes` in the folders below `folder`, not in itself."""
    found: list[Path] = []
    for name, folders, files in os.walk(folder, followlinks=True):
        place = Path(name)
        depth = len(place.relative_to(folder).parts)
        stores = [inner for inner in folders if inner.endswith(zarr_store.SUFFIX)]
        passed_by = (*NOT_FEATURES, *stores)
        folders[:] = [inner for inner in folders if depth < DEPTH and inner not in passed_by and inner[0] != "."]
        inside = [place / name for name in (*files, *stores) if depth and name.endswith(suffixes)]
        found += filter(_is_features, inside)
    return sorted(found)


def _instead(folder: Path) -> str:
    """What lies there: the commonest kind of file."""
    kinds = Counter(path.suffix or path.name for path in folder.iterdir() if path.is_file())
    if not kinds:
        return ""
    kind, count = kinds.most_common(1)[0]
    if kind.lower() in SUFFIXES:
        return f" (it holds {count} {kind} file{'s' * (count != 1)}: give them the ending {kind.lower()}, in small letters)"
    return f" (it holds {count} {kind} file{'s' * (count != 1)}; if those are features, save {{slide}}.npy of (patches, width))"


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
                evidence = f"{path.name} holds {listed(file)}"
        except FeatureFileError:
            continue
        if name is clam and alone and torchmil.recognises(place.holder, place.suffix):
            return _torchmil(place)
        break
    return Layout(name.NAME, evidence, partial(hdf5.read, describe=name.describe), partial(hdf5.head, describe=name.describe))  # fmt: skip


def _pt_layout(place: Place) -> Layout:
    if eva.recognises([place.holder, *place.holder.parents[:DEPTH]]):
        return Layout(eva.NAME, f"{eva.MANIFEST} lies beside or above", eva.read, eva.head)
    if slideflow.recognises(place.holder):
        return Layout(slideflow.NAME, "its index or bags_config.json lies beside", slideflow.read, slideflow.head)
    kind = ""
    for path in _sample(place):
        try:
            kind = tensors.open_pt(path).kind
            break
        except FeatureFileError:
            continue
    if kind == "array" or trident.FOLDER.match(place.holder.name):
        return Layout(trident.NAME, "NumPy arrays saved by torch", tensors.read, trident.head_pt)
    if kind == "dict":
        return Layout("dict of tensors", "keys features or feats", tensors.read, tensors.head)
    return Layout(clam.NAME, "one tensor per slide", tensors.read, tensors.head)


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
    return Layout(name, "one file per slide", packed.read, packed.head)


def _npy_layout(place: Place) -> Layout:
    if torchmil.recognises(place.holder, ".npy"):
        return _torchmil(place)
    if owkin.recognises(_sample(place)):
        return Layout(owkin.NAME, "level, x and y in front of the features", owkin.read, owkin.head, owkin.NAME)
    return Layout("NumPy", "one array per slide", arrays.read_npy, arrays.head_npy)


def _npz_layout(place: Place) -> Layout:
    return Layout("NumPy", "named arrays", arrays.read_npz, arrays.head_npz)


def _zarr_layout(place: Place) -> Layout:
    zarr_store.refuse_missing_zarr()
    if any(map(wsidata.recognises, _sample(place))):
        table = wsidata.chosen_table(place.folder, place.paths.values(), place.named_table)
        return Layout(wsidata.NAME, f"table {table}", wsidata.read, wsidata.head, table=table)
    if any(map(tiatoolbox.recognises, _sample(place))):
        return Layout(tiatoolbox.NAME, "features and coordinates", tiatoolbox.read, tiatoolbox.head)
    raise FeatureFileError(
        f"{place.holder} holds {len(place.paths)} stores of zarr, and none of the first {SAMPLE} is one of wsidata (folders "
        "tables and shapes) or tiatoolbox (arrays features and coordinates). Point `features:` to the extracted features."
    )


def _torchmil(place: Place) -> Layout:
    beside = [name for name in torchmil.BESIDE if (place.holder.parent / name).is_dir()]
    return Layout(torchmil.NAME, f"beside {', '.join(beside)}", torchmil.read, torchmil.head)


def _sample(place: Place) -> list[Path]:
    return list(place.paths.values())[:SAMPLE]


LAYOUTS: Mapping[str, Callable[[Place], Layout]] = {
    packed.SUFFIX: _packed_layout, ".h5": _h5_layout, ".hdf5": _h5_layout, ".pt": _pt_layout, ".pth": _pt_layout,
    ".npy": _npy_layout, ".npz": _npz_layout, zarr_store.SUFFIX: _zarr_layout,
}  # fmt: skip
