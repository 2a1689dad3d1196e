"""Folder: the one place of an extraction, whose slides all have the same settings.

::

    OUT/
      features.json      encoder, transform, resolution, patches, tissue: what all slides here share
      {slide}.h5         see `feature_file.py`
      sheets/{slide}.png see `sheet.py`
      claims/{slide}.json host and process that make the slide's features right now; no folder once nobody does
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py

from milbench.cohorts.fingerprint import file_ends
from milbench.errors import FeatureFileError, StoreError, UsageError
from milbench.extraction.settings import FORMAT, Settings, sha256_of
from milbench.extraction.sheet import SHEETS
from milbench.extraction.writing import writing
from milbench.formats.declared import json_object
from milbench.formats.hdf5 import opened
from milbench.formats.hdf5_file import Hdf5File
from milbench.store.claims import living
from milbench.store.files import json_bytes, write_atomically
from milbench.store.leftovers import abandoned, dead_claims, delete
from milbench.store.run_folder import CLAIMS
from milbench.visible import shortened, visible_line

if TYPE_CHECKING:
    from milbench.extraction.encoder import Encoder
    from milbench.extraction.plan import SlideFile

SETTINGS_FILE = "features.json"


def facts_of(encoder: Encoder, settings: Settings) -> dict[str, Any]:
    """What all slides of a folder share, in plain values."""
    plain: dict[str, Any] = json.loads(json.dumps({"milbench_features": FORMAT, **encoder.facts(), **settings.facts()}))
    return plain


def prepare(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make the folder and delete what killed processes have left half-written in it.

    Raises
    ------
    UsageError : it holds features of other settings, or of another tool; the first difference is named. Settings of a folder
        without features give way.
    StoreError : the system refuses to write.
    """
    path = folder / SETTINGS_FILE
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        delete([*abandoned(folder), *abandoned(folder / SHEETS), *dead_claims(folder / CLAIMS)])
        if path.exists():
            _refuse_other_settings(path, facts)
        if not path.exists() or json_object(path) != facts:
            write_atomically(path, json_bytes(facts))


def _refuse_other_settings(path: Path, facts: Mapping[str, Any]) -> None:
    stored = json_object(path)
    if stored is None or "milbench_features" not in stored:
        raise UsageError(
            f"{path} was not written by milbench features, or cannot be read. Name another folder with --out."
        )
    if not any(path.parent.glob("*.h5")) and not living(path.parent / CLAIMS):
        return  # every slide failed, perhaps because of a setting: no feature is of the former ones
    for name, was, now in _differences(stored, facts):
        raise UsageError(
            f"{path.parent} holds features with {name} {_text(was)}, and the command asks for {_text(now)}. Name another folder "
            f"with --out, or give the same settings again."
        )


def _differences(stored: Mapping[str, Any], facts: Mapping[str, Any], above: str = "") -> list[tuple[str, Any, Any]]:
    """Names of fields, and their values in the folder and now, where they differ."""
    found = []
    for name in [*facts, *(name for name in stored if name not in facts)]:
        was, now = stored.get(name), facts.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            found += _differences(was, now, f"{above}{name}.")
        elif was != now:
            found.append((f"{above}{name}", was, now))
    return found


def _text(value: Any) -> str:
    text = "none" if value is None else f"'{value}'" if isinstance(value, str) else json.dumps(value)
    return shortened(visible_line(text))


def why_again(folder: Path, slide: SlideFile, facts: Mapping[str, Any]) -> str | None:
    """None if the slide's features are there; else empty if there are none, or why they are made again.

    Raises
    ------
    StoreError : another file, or one of another tool or with other settings, lies there.
    """
    path = folder / f"{slide.slide_id}.h5"
    if not path.exists():
        return ""
    try:
        now = state_of(slide.path)
    except (OSError, FeatureFileError):
        return ""  # whoever opens the slide says what is wrong with it; its features stay
    try:
        with opened(path) as file:
            return _why_again(path, file, slide, facts, now)
    except (FeatureFileError, KeyError) as error:
        if not path.is_file() or (path.stat().st_size and not h5py.is_hdf5(path)):
            raise StoreError(
                f"{path} is no feature file, and would be replaced by one. Move it away, or name another --out."
            ) from error
        return "its feature file is damaged"


def _why_again(path: Path, file: Hdf5File, slide: SlideFile, facts: Mapping[str, Any], now: SlideState) -> str | None:
    if file.attrs.get("settings_sha256") != sha256_of(facts):
        raise StoreError(
            f"{path} was not written with the settings of {SETTINGS_FILE} beside it. Move it away, or name another --out."
        )
    size = int(file.attrs["slide_bytes"])
    if size != now.size:
        return f"the slide has changed since its features were made ({size:,} bytes then, {now.size:,} now)"
    if file.attrs["slide_ends_sha256"] != now.ends_sha256:
        return "the slide has changed since its features were made (as many bytes, other ones)"
    of_coords = file.attributes_of("coords")
    mpp = float(of_coords["level0_mpp_x"])
    if slide.mpp is None and of_coords["level0_mpp_told"]:
        return f"its features were made with --mpp-of {slide.slide_id}={mpp:g}, which is not given now"
    if slide.mpp is not None and mpp != slide.mpp:
        return f"its features were made with {mpp:g} microns per pixel, and --mpp-of says {slide.mpp:g}"
    return None


class SlideState(NamedTuple):
    """What tells a slide from another one in its place, without reading it whole.

    Attributes
    ----------
    size : bytes on disk.
    ends_sha256 : hash of its file's first and last bytes, where containers keep what they tell of the pixels.
    """

    size: int
    ends_sha256: str


def state_of(path: Path) -> SlideState:
    """The slide as it is now; raises OSError if it is not there."""
    return SlideState(bytes_of(path), hashlib.sha256(file_ends(path)).hexdigest())


def bytes_of(path: Path) -> int:
    """Size of a slide on disk: of a file, of all files of a folder, of an MRXS with its folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    beside = path.with_suffix("")
    return path.stat().st_size + (bytes_of(beside) if path.suffix.lower() == ".mrxs" and beside.is_dir() else 0)
