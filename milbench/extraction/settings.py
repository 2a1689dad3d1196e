"""Settings: what decides the features of a slide, beside the slide: resolution, patches, tissue, encoder.

They stand in `features.json` and their hash in each file, so that a folder never mixes two extractions. How fast features
are made (device, workers, batches) is none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from milbench.errors import UsageError, unknown_name

FORMAT = 1
"""Version of feature files and of `features.json`."""

GRIDS = ("slide", "per-tissue")
RULES = ("four-points", "centre")
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class TissueSettings:
    """What counts as tissue. Names, values and order of steps follow CLAM's preset for TCGA, except where noted.

    Attributes
    ----------
    microns_per_pixel : of the small picture in which tissue is looked for. CLAM takes a level near 1/64, whatever that is.
    median : edge of the median filter, in pixels of that picture.
    saturation : a pixel is tissue if its saturation (0 to 255) is above this; 8 as CLAM's presets for H&E.
    otsu : find the threshold for each slide by Otsu's method instead.
    closing : edge of the square that closes gaps, in pixels of the picture; 0 = none.
    smallest_piece, smallest_hole : pieces of tissue up to this size are left out, and holes up to this size are filled;
        in squares of 128 µm, which are CLAM's reference patches of 512 pixels at 40x.
    most_holes : of a piece; smaller ones are filled.
    rule : which patches count: "four-points" = one of four points halfway to the corners lies in tissue and the centre in
        no hole (CLAM's `four_pt`); "centre" = the centre lies in tissue and in no hole (CLAM's `center`).
    """

    microns_per_pixel: float = 8.0
    median: int = 7
    saturation: int = 8
    otsu: bool = False
    closing: int = 4
    smallest_piece: float = 16.0
    smallest_hole: float = 4.0
    most_holes: int = 8
    rule: str = "four-points"


@dataclass(frozen=True)
class Settings:
    """What is asked of every slide.

    Attributes
    ----------
    magnification, mpp : resolution of the patches; one of the two, the other is None.
    patch_size, step : edge of a patch and distance of two, in pixels of that resolution.
    """

    magnification: float | None = 20.0
    mpp: float | None = None
    patch_size: int = 256
    step: int = 256
    dtype: str = "float16"
    grid: str = "slide"
    tissue: TissueSettings = TissueSettings()

    def facts(self) -> dict[str, Any]:
        """Plain values for `features.json`, without what was not asked."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def checked(settings: Settings) -> Settings:
    """The settings, if they can be used.

    Raises
    ------
    UsageError : one cannot; it is named.
    """
    for kind, name, known in (("grid", settings.grid, GRIDS), ("dtype", settings.dtype, DTYPES)):
        if name not in known:
            raise unknown_name(kind, name, known)
    if (settings.magnification is None) == (settings.mpp is None):
        raise UsageError("give one of --mpp and --magnification: both say how large a pixel of a patch is.")
    _within("--mpp", settings.mpp, 0.05, 100)
    _within("--magnification", settings.magnification, 0.1, 200)
    _within("--patch", settings.patch_size, 16, 4096)
    _within("--step", settings.step, 1, 2**16)
    tissue = settings.tissue
    if tissue.rule not in RULES:
        raise unknown_name("tissue rule", tissue.rule, RULES)
    _within("--tissue microns_per_pixel", tissue.microns_per_pixel, 0.25, 200)
    _within("--tissue median", tissue.median, 1, 101)
    _within("--tissue saturation", tissue.saturation, 0, 254)
    _within("--tissue closing", tissue.closing, 0, 200)
    _within("--tissue smallest_piece", tissue.smallest_piece, 0, 1e6)
    _within("--tissue smallest_hole", tissue.smallest_hole, 0, 1e6)
    _within("--tissue most_holes", tissue.most_holes, 0, 10**6)
    if tissue.median % 2 == 0:
        raise UsageError(f"--tissue median takes an odd number of pixels, such as 7; got {tissue.median}.")
    return settings


def _within(flag: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:  # NaN is in no range
        raise UsageError(f"{flag} takes a number from {least:g} to {most:g}; got {value:g}.")


def tissue_settings(words: Sequence[str]) -> TissueSettings:
    """Settings of `--tissue key=value ...`, the others as they are by default.

    >>> tissue_settings(["saturation=12", "otsu=false"]).saturation
    12

    Raises
    ------
    UsageError : an unknown key, or a value of another kind.
    """
    given: dict[str, Any] = {}
    kinds = {field.name: type(field.default) for field in fields(TissueSettings)}
    for word in words:
        name, _, text = word.partition("=")
        if name not in kinds:
            raise unknown_name("setting of --tissue", name, kinds)
        given[name] = _value(name, text, kinds[name])
    return replace(TissueSettings(), **given)


def _value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in {"true", "false"}:
            raise UsageError(f"--tissue {name} takes true or false, such as {name}=true; got '{text}'.")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise UsageError(
            f"--tissue {name} takes {what}, such as {name}={getattr(TissueSettings(), name)}; got '{text}'."
        ) from None


def sha256_of(facts: Mapping[str, Any]) -> str:
    """A hash that is the same for the same settings, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
