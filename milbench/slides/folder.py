"""Folder: which slides lie in it, each under its id."""

from __future__ import annotations

from pathlib import Path

from milbench.errors import DataError

OME_SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.tf2", ".ome.tf8")
SUFFIXES = (
    *OME_SUFFIXES,
    *(".svs", ".ndpi", ".mrxs", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".dcm"),
    *(".scn", ".bif", ".czi", ".vms", ".vmu", ".svslide"),
)
"""Endings of slides, in small letters; the longest that fits is the one that an id is cut before."""


def slide_id_of(path: Path) -> str:
    """The file's name without its ending; `S1.ome.tif` is slide S1."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.stem


def suffix_of(path: Path) -> str:
    """The ending of `SUFFIXES` that `path` has, in small letters; empty if none."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


def find_slides(folder: Path) -> dict[str, Path]:
    """File of every slide below `folder`, by slide id, in the order of ids.

    Raises
    ------
    DataError : no folder, or two files for one id.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and suffix_of(path):
            slide_id = slide_id_of(path)
            if slide_id in found:
                raise DataError(f"slide {slide_id} lies in two places: {found[slide_id]} and {path}.")
            found[slide_id] = path
    return dict(sorted(found.items()))
