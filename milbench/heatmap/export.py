"""Export: the maps of all slides of a cohort in one HDF5 file, one dataset per slide.

::

    attention.h5
      attributes          run, dataset, fold
      rows                JSON: model, title, map, task and kind of every row of every slide
      slides/{slide_id}   float32 [rows, N], attribute `role`: the slide's side of the fold; if a bag joins the slides of a
                          patient, attribute `patient`, and the slide's part of what models see in all of them
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from milbench.errors import FeatureFileError, StoreError
from milbench.formats.hdf5 import opened
from milbench.heatmap.attention import Look, alternative_maps, as_array, looks, task_map
from milbench.heatmap.evaluate import models_of
from milbench.heatmap.maps import Map
from milbench.heatmap.stored import RunCohort
from milbench.store.disk import Disk


def export_attention(
    cohort: RunCohort, names: Sequence[str], fold: int, path: Path, advance: Callable[[], None] = lambda: None
) -> int:
    """Number of slides written to `path`, which appears whole or not at all; one slide is in memory at a time.

    Raises
    ------
    StoreError : the file cannot be written, or another file lies there.
    """
    _refuse_another(path)
    models = models_of(cohort, names, fold)
    slides = [str(slide) for slide in cohort.cohort.slides["slide_id"]]
    roles = {slide: role for role in ("train", "val", "test") for slide in cohort.slides(fold, role)}
    temporary, disk = path.with_name(f".{path.name}.part"), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Disk(temporary, "w+") as disk, h5py.File(disk, "w") as file:
            file.attrs.update({"run": cohort.run.name, "dataset": cohort.name, "fold": fold})
            for index, look in enumerate(looks(cohort, models, slides)):
                rows = _rows(look)
                if index == 0:
                    file["rows"] = json.dumps([facts for facts, _ in rows])  # an attribute holds 64 KiB at most
                maps = np.stack([values for _, values in rows])
                for slide, of_slide in look.bag.parts:
                    stored = _written(disk, file, slide.slide_id, maps[:, of_slide])
                    stored.attrs["role"] = roles.get(look.bag.slide_id, "")
                    if look.bag.slides:
                        stored.attrs["patient"] = look.bag.slide_id
                advance()
        disk.raise_error()
        temporary.replace(path)
    except OSError as error:
        reason = (
            disk and disk.error
        ) or error  # HDF5 may stumble over what is missing before the disk's error is asked for
        raise StoreError(f"{path} cannot be written ({reason}). Free space or choose another place.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(cohort.cohort.by_slide.slides)


def _refuse_another(path: Path) -> None:
    """StoreError if something else than earlier maps lies at `path`, which would be lost."""
    if path.is_symlink() or (path.exists() and not _holds_maps(path)):
        raise StoreError(
            f"{path} exists, and is no file of maps. It was left as it is. Name another file with --export."
        )


def _holds_maps(path: Path) -> bool:
    try:
        with opened(path) as file:
            return all(name in file.attrs for name in ("run", "dataset", "fold"))
    except FeatureFileError:
        return False


def _written(disk: Disk, file: h5py.File, slide_id: str, maps: NDArray[np.float32]) -> h5py.Dataset:
    """The slide's dataset, read back once and compared."""
    stored = file.create_dataset(f"slides/{slide_id}", data=maps)
    disk.raise_error()
    if not np.array_equal(stored[...], maps, equal_nan=True):
        raise OSError(f"the maps of slide {slide_id} do not read back as they were written")
    return stored


def _rows(look: Look) -> list[tuple[dict[str, str], NDArray[np.float32]]]:
    """What every row is, and its values [N]: maps by task, alternatives, experts, model after model."""
    rows = []
    for stored, maps in look.seen:
        for asked in stored.asked:
            rows += [
                _row(asked.title, m) for m in (task_map(stored, maps, asked), *alternative_maps(stored, maps, asked))
            ]
        for name, values in zip(maps.experts, () if maps.per_expert is None else maps.per_expert, strict=True):
            title, tasks = stored.model.info.title, ",".join(stored.tasks)
            rows.append(_row(tasks, Map(stored.name, title, name, "attention of one expert or head", as_array(values))))
    return rows


def _row(task: str, drawn: Map) -> tuple[dict[str, str], NDArray[np.float32]]:
    facts = {"model": drawn.model, "title": drawn.title, "map": drawn.name, "task": task, "kind": drawn.kind}
    return facts, drawn.values.astype(np.float32)
