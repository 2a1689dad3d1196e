"""Feature files: one small reader per on-disk layout, detected and reported, never guessed silently.

In: a folder as another tool left it. Out: the layout's name, and per slide its header (sizes, from the file's head alone) or
its features and coordinates. Open `clam.py` first, as an example of a reader; `detect.py` recognises the layout.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from milbench.errors import FeatureFileError
from milbench.formats.declared import NOTHING, DeclaredFacts, completed

PIXELS = "level-0 px"
CENTRES = "level-0 px, patch centres"
MICROMETRES = "µm"
TILES = "tiles"
UNKNOWN = "unit unknown"

TABLE_MARK = "#"
"""Behind a folder of stores, what the name of a table follows: `features: stores#uni_tiles`."""


class SlideFeatures(NamedTuple):
    """What a feature file holds.

    Attributes
    ----------
    features : Tensor [N, D] in its stored dtype.
    coords : Tensor [N, 2] or None. Top-left corners; int64 in level-0 pixels, else as stored.
    patch_size : edge of a patch in the unit of `coords`, or None where the file does not tell.
    unit : of `coords`: one of `PIXELS`, `CENTRES`, `MICROMETRES`, `TILES`, `UNKNOWN`.
    instance_labels : Tensor [N, T] or None. Truth per patch and task.
    coords_problem : why `coords` is None although the file has coordinates; empty otherwise.
    """

    features: Tensor
    coords: Tensor | None = None
    patch_size: float | None = None
    unit: str = PIXELS
    instance_labels: Tensor | None = None
    coords_problem: str = ""


class SlideHeader(NamedTuple):
    """What a feature file says of itself, without its values being read.

    Attributes
    ----------
    n_patches, width, dtype : of the features.
    unit : of the coordinates; empty = there are none.
    patch_size : edge of a patch in that unit, or None.
    encoder, magnification : empty or None where the file does not tell.
    coords_problem : why the coordinates cannot be used, as far as the header tells; empty otherwise.
    mpp : micrometres per pixel of the patches as the encoder read them, or None.
    weights_sha256 : hash of the encoder's weights; empty where the file does not tell.
    transform : how pixels were normalised, in the words or the JSON of the extractor; empty where the file does not tell.
    facts_problem : what is declared of the features and contradicts the file, or cannot be used; empty otherwise.
    order_problem : why patches may stand in another order than on the slide, while no coordinates tell; empty otherwise.
    """

    n_patches: int
    width: int
    dtype: str
    unit: str = ""
    patch_size: float | None = None
    encoder: str = ""
    magnification: float | None = None
    coords_problem: str = ""
    mpp: float | None = None
    weights_sha256: str = ""
    transform: str = ""
    facts_problem: str = ""
    order_problem: str = ""


@dataclass(frozen=True)
class FeatureFolder:
    """A folder of slides in one layout.

    Attributes
    ----------
    layout : how the layout was recognised, for the run's log.
    paths : file by slide id; only the layout's own suffix is stripped, since ids contain dots. If a slide is a store of
        several files, the folder that holds them.
    read, head : what one file holds, and what it says of itself; raise `FeatureFileError`.
    folder : where the files lie, in it or in folders below.
    read_anew : how the same bytes give other features than in earlier versions; part of a cohort's identity.
    beside : what is declared beside the files, by the folder that holds them.
    stated : what the cohort's file declares of all of them.
    suffix : how the names of the slides' files or stores end.
    table : which table of each store is read; empty = the layout has no tables.
    """

    layout: str
    paths: Mapping[str, Path]
    read: Callable[[Path], SlideFeatures]
    head: Callable[[Path], SlideHeader]
    folder: Path
    read_anew: str = ""
    beside: Mapping[Path, DeclaredFacts] = field(default_factory=dict)
    stated: DeclaredFacts = NOTHING
    suffix: str = ""
    table: str = ""

    @property
    def named(self) -> str:
        """The folder as `features:` names it, with its table."""
        return f"{self.folder}{TABLE_MARK}{self.table}" if self.table else str(self.folder)

    def spelled_as(self, slide_ids: Iterable[str]) -> FeatureFolder:
        """This folder with the ids of a label table, where a file's name has the same letters in other code points."""
        files = {composed(name): name for name in self.paths}
        wanted = (slide for slide in slide_ids if slide not in self.paths)
        renamed = {files[composed(slide)]: slide for slide in wanted if composed(slide) in files}
        if not renamed:
            return self
        paths = {renamed.get(name, name): path for name, path in self.paths.items()}
        text = f"{self.layout}; {len(renamed)} names are spelled with other code points than in the labels"
        return replace(self, layout=text, paths=paths)

    def load(self, slide_id: str) -> SlideFeatures:
        """Features of one slide.

        Raises
        ------
        FeatureFileError : the file is missing, damaged or not of this layout.
        """
        return self.read(self._path(slide_id))

    def header(self, slide_id: str) -> SlideHeader:
        """Sizes of one slide, from its header where the layout has one, and what is declared of it; raises as `load`."""
        path = self._path(slide_id)
        return completed(completed(self.head(path), self.beside.get(path.parent, NOTHING)), self.stated)

    def below(self, slide_ids: Iterable[str]) -> str:
        """Where files of these slides lie in folders below, which are not read where there are files above them."""
        from milbench.formats.detect import files_below

        wanted, suffix = set(slide_ids), self.suffix
        files = (path for path in files_below(self.folder, (suffix,)) if path.name.removesuffix(suffix) in wanted)
        counts = Counter(str(path.parent.relative_to(self.folder)) for path in files)
        return ", ".join(f"{count} in {name}" for name, count in counts.most_common(3))

    def _path(self, slide_id: str) -> Path:
        if slide_id not in self.paths:
            raise FeatureFileError(
                f"slide {slide_id} has no feature file ({self.layout}). Extract it or drop its label."
            )
        return self.paths[slide_id]


def composed(name: str) -> str:
    """`name` with every accented letter as one code point; another system writes two, which look alike."""
    return unicodedata.normalize("NFC", name)


def folder_and_table(place: Path) -> tuple[Path, str]:
    """The folder that `place` names, and the table in its stores; the table is empty if none is named.

    >>> folder_and_table(Path("/data/stores#uni_tiles"))
    (PosixPath('/data/stores'), 'uni_tiles')
    """
    folder, mark, table = str(place).rpartition(TABLE_MARK)
    return (Path(folder), table) if mark and folder and not place.exists() else (place, "")


def open_features(place: Path) -> FeatureFolder:
    """The reader for what lies in a folder; behind a `#` its path may name a table, where each slide's store has several.

    Raises
    ------
    FeatureFileError : no folder, nothing in it that a reader knows, or several extractions or tables to choose from.
    UsageError : a library is missing that reads them.
    """
    from milbench.formats.detect import recognise

    folder, table = folder_and_table(place)
    if folder.is_file():
        raise FeatureFileError(f"{folder} is a file. Name the folder that holds one file of features per slide.")
    if not folder.is_dir():
        raise FeatureFileError(f"the feature folder {folder} does not exist. Check `features:` in the cohort's YAML.")
    return recognise(folder, table)
