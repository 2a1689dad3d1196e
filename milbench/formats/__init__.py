"""Feature files: one small reader per on-disk layout, detected and reported, never guessed silently."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor

from milbench.errors import FeatureFileError


class SlideFeatures(NamedTuple):
    """What a feature file holds.

    Attributes
    ----------
    features : Tensor [N, D] in its stored dtype.
    coords : int64 Tensor [N, 2] or None. Top-left corners in level-0 pixels.
    patch_size : edge of a patch in level-0 pixels, or None where the file does not tell.
    """

    features: Tensor
    coords: Tensor | None
    patch_size: float | None


class FeatureFolder(Protocol):
    """A folder of slides in one layout."""

    layout: str
    """How the layout was recognised, for the run's log."""

    def files(self) -> dict[str, Path]:
        """Path by slide id; only the layout's own suffix is stripped, since ids contain dots."""

    def width(self, slide_id: str) -> int:
        """Feature width D, from the header where there is one."""

    def load(self, slide_id: str) -> SlideFeatures:
        """Features of one slide.

        Raises
        ------
        FeatureFileError : the file is missing, damaged or not of this layout.
        """


def open_features(folder: Path) -> FeatureFolder:
    """The reader for what lies in `folder`.

    Raises
    ------
    FeatureFileError : no folder, or nothing in it that a reader knows.
    """
    from milbench.formats.clam import ClamFolder

    if not folder.is_dir():
        raise FeatureFileError(f"the feature folder {folder} does not exist. Check `features:` in the cohort's YAML.")
    reader = ClamFolder.recognise(folder)
    if reader is None:
        raise FeatureFileError(
            f"{folder} holds no features that milbench knows. Looked for: {{slide}}.h5, {{slide}}.pt, "
            "h5_files/{slide}.h5, pt_files/{slide}.pt (CLAM)."
        )
    return reader
