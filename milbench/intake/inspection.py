"""Inspection: what a folder of features holds, from headers alone, and a cohort.yaml to start from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import yaml

from milbench.cohorts.feature_facts import feature_facts
from milbench.errors import DataError, FeatureFileError, MilbenchError
from milbench.formats import TABLE_MARK, FeatureFolder, SlideHeader, folder_and_table, open_features
from milbench.formats.linked import n_bytes
from milbench.labels import SUFFIXES, read_labels, slide_ids, suggested_tasks
from milbench.labels.suggestion import flow, plain
from milbench.machine.sizes import bytes_text
from milbench.store.feature_facts import in_words


class Watch(Protocol):
    """Shows progress over slides."""

    def __call__(
        self, slides: Iterable[str], what: str, n_bytes: Callable[[str], int] | None = None, /
    ) -> Iterable[str]:
        """The slides one by one; `what` is done to them, and `n_bytes` is the size of each where bytes per second count."""


TABLES = ("labels.csv", "labels", *(f"*{suffix}" for suffix in SUFFIXES))
"""Names by which a label table is looked for beside features."""


@dataclass(frozen=True)
class Inspection:
    """What lies in a folder.

    Attributes
    ----------
    folder : reader of its files.
    headers : by slide id, for every file that can be opened.
    broken : message by slide id, for the others.
    n_bytes : size of all files on disk.
    """

    folder: FeatureFolder
    headers: dict[str, SlideHeader]
    broken: dict[str, str]
    n_bytes: int


def inspect_folder(path: Path, watch: Watch) -> Inspection:
    """Headers of every slide in `path`.

    Raises
    ------
    FeatureFileError : nothing that a reader knows, or not one readable file.
    """
    folder, table = folder_and_table(path)
    inside = folder / "features"
    place = (inside.with_name(f"{inside.name}{TABLE_MARK}{table}") if table else inside) if inside.is_dir() else path
    inspection = read_headers(open_features(place), watch)
    if not inspection.headers:
        raise FeatureFileError(
            f"none of {len(inspection.broken)} files can be read. {next(iter(inspection.broken.values()))}"
        )
    return inspection


def read_headers(folder: FeatureFolder, watch: Watch, slides: Iterable[str] | None = None) -> Inspection:
    """Headers of `slides` (default: all); a broken file is recorded, not raised."""
    headers: dict[str, SlideHeader] = {}
    broken: dict[str, str] = {}
    total = 0
    for slide in watch(list(folder.paths if slides is None else slides), "reading headers"):
        try:
            headers[slide] = folder.header(slide)
            total += n_bytes(folder.paths[slide])
        except (FeatureFileError, OSError) as error:
            broken[slide] = str(error)
    return Inspection(folder, headers, broken, total)


def facts(inspection: Inspection) -> list[tuple[str, str]]:
    """Name and value of everything worth knowing, for a table."""
    headers = list(inspection.headers.values())
    patches = [header.n_patches for header in headers]
    return [
        ("format", inspection.folder.layout),
        ("slides", f"{len(headers)}" + (f", and {len(inspection.broken)} unreadable" if inspection.broken else "")),
        ("patches", f"{min(patches):,} to {max(patches):,}, median {median(patches):,.0f}, {sum(patches):,} in all"),
        ("on disk", bytes_text(inspection.n_bytes)),
        *in_words(feature_facts(headers)).items(),
        ("coordinates", counted(header.unit or "none" for header in headers)),
        *(("contradiction", problem) for problem in _first_problem(headers)),
    ]


def _first_problem(headers: Iterable[SlideHeader]) -> list[str]:
    """What is declared of the first slide that contradicts its file, if there is one."""
    return [header.facts_problem for header in headers if header.facts_problem][:1]


def counted(values: Iterable[object]) -> str:
    """The value, or every value with its number of slides, most frequent first."""
    counts = Counter(map(str, values)).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} ({n} slides)" for value, n in counts)


def find_labels(path: Path, slides: Iterable[str]) -> tuple[Path | None, int]:
    """The label table in or beside `path` that knows most of `slides`, and how many; (None, 0) if there is none.

    Tables whose columns are all binary go first: others may be no label tables at all.
    """
    wanted = set(slides)
    path, _ = folder_and_table(path)
    places = [path, path.parent, path.parent.parent]
    tables = [table for place in places for name in TABLES for table in sorted(place.glob(name))]
    best = _knows_most(tables, lambda table: len(wanted & set(read_labels(table).slides["slide_id"])))
    return best if best[0] else _knows_most(tables, lambda table: n_labelled(table, wanted))


def _knows_most(tables: Iterable[Path], n_known: Callable[[Path], int]) -> tuple[Path | None, int]:
    """The table with the most known slides, and how many; tables that cannot be read are passed over."""
    best: tuple[Path | None, int] = (None, 0)
    for table in tables:
        try:
            known = n_known(table)
        except MilbenchError:
            continue
        best = (table, known) if known > best[1] else best
    return best


def n_labelled(table: Path, slides: Iterable[str]) -> int:
    """How many of `slides` a label table knows; raises `LabelTableError`."""
    return len(set(slides) & slide_ids(table))


def draft(inspection: Inspection, labels: Path | None, name: str, out: Path) -> str:
    """A cohort.yaml to be written to `out`; paths relative to it where they can be."""
    features = Path(inspection.folder.named)
    tasks = suggested_tasks(labels) if labels else {}
    lines = [
        yaml.safe_dump({"name": name}).strip(),
        yaml.safe_dump({"labels": _relative(labels, out) if labels else "labels.csv"}).strip()
        + ("" if labels else "   # not found: a CSV with case_id, slide_id and one column per task"),
        yaml.safe_dump({"features": _relative(features, out)}).strip()
        + f"   # {inspection.folder.layout.split(' in ')[0]}",
        *task_lines(tasks),
        "feature_scaling: none   # none | standard | minmax (to [-1, 1]) | l2; fitted on training slides only",
        "splits: kfold           # kfold | m4 | site | a file",
        "n_folds: 5",
    ]
    return "\n".join(lines) + "\n"


def task_lines(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`tasks:` of a cohort.yaml; empty where nothing need be said of the tasks."""
    if not tasks:
        return []
    lines = [
        f"  {plain(task)}: binary" if said["kind"] == "binary" else f"  {flow(task, said)}"
        for task, said in tasks.items()
    ]
    return [
        "tasks:   # guessed from names and cells: check kinds, orders and units, and delete what is no task",
        *lines,
    ]


def write_draft(text: str, out: Path) -> None:
    """Write a draft where there is none yet.

    Raises
    ------
    DataError : `out` exists, or its folder does not.
    """
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(f"{out} exists and was left as it is. Name another file with --out.") from None
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}. Name another file with --out.") from error


def _relative(path: Path, out: Path) -> str:
    path, base = path.resolve(), out.resolve().parent
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
