"""Pack: a cohort's features once more, in the layout that reads fastest; the source stays as it is."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor

from milbench.bag import check_features, largest_value
from milbench.cohorts.bag_names import SLIDE as BAG_OF_A_SLIDE
from milbench.cohorts.cohort_file import PROTOCOLS, CohortFile
from milbench.cohorts.content import SlideContent, content_of
from milbench.cohorts.fingerprint import file_ends
from milbench.cohorts.record import ContentRecord, remembered_beside
from milbench.endpoints.endpoint import BINARY
from milbench.errors import DataError, FeatureFileError, UsageError, unknown_name
from milbench.formats import FeatureFolder, SlideFeatures, SlideHeader
from milbench.formats.linked import n_bytes
from milbench.formats.packed import MARK, SUFFIX, VERSION, facts, head, opened, read, sha256
from milbench.formats.tensor_file import write_tensors
from milbench.intake.inspection import Watch
from milbench.labels import PATIENT, SLIDE, LabelTable
from milbench.labels.written import written_task
from milbench.machine.hardware import usable_cores
from milbench.process.memory import free_memory
from milbench.store.claims import alone
from milbench.store.csv_files import exact_csv
from milbench.store.files import replacing_file, write_atomically, writing
from milbench.store.leftovers import abandoned, delete

DTYPES = {"float16": torch.float16, "float32": torch.float32}
MOST_THREADS = 4
COPIES, MEMORY_SHARE = 4, 0.4
"""Slides that are packed side by side, at most; how often each is in memory meanwhile, and what all may take of what is free."""

BLOCK = 1 << 17
"""Values that are compared at a time."""

SOURCES = "sources.json"
"""Beside the packs: content of the file that each was made from. Without it, slides are compared by their values."""
MOST_ROUNDED = 0.01
"""Largest change of a value by its slide's largest; float16 changes values of usual size by 0.0005 at most."""


@dataclass(frozen=True)
class Packed:
    """What packing did.

    Attributes
    ----------
    cohort : the cohort.yaml of the packed cohort.
    written, kept : slides written now, and those that were there from an earlier call.
    bytes_before, bytes_after : sizes of all files.
    largest_rounding : the largest change of a value, relative to its slide's largest one.
    """

    cohort: Path
    written: int
    kept: int
    bytes_before: int
    bytes_after: int
    largest_rounding: float


def pack(file: CohortFile, out: Path, dtype: str, watch: Watch) -> Packed:
    """Write `out/features/{slide}.safetensors`, `out/labels.csv` and `out/cohort.yaml`; goes on where it was stopped.

    Raises
    ------
    FeatureFileError : a slide is unusable, or too large for float16.
    StoreError : the disk is full or the folder cannot be written.
    UsageError : unknown dtype, `out` is where the source lies, or another process packs into it.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    table = file.label_table()
    source = file.feature_folder().spelled_as(table.slides["slide_id"])
    _refuse_source(out, source)
    _refuse_other_tables(out)
    _make(out / "features")
    with alone(out, "data pack"):  # two would write labels.csv, cohort.yaml and each slide twice
        return _pack_all(file, table, source, out, dtype, watch)


def _pack_all(
    file: CohortFile, table: LabelTable, source: FeatureFolder, out: Path, dtype: str, watch: Watch
) -> Packed:
    slides, target = table.slides, out / "features"
    delete([*abandoned(out), *abandoned(target)])
    wanted = [slide for slide in slides["slide_id"] if slide in source.paths]
    there = {slide for slide in wanted if (target / f"{slide}{SUFFIX}").exists()}
    with _remembered(out / SOURCES) as made_from:
        work = partial(_pack_slide, source, target, dtype, made_from)
        done = _side_by_side(work, wanted, _threads(_largest_file(source, wanted)))
        watched = watch(wanted, "packing", lambda slide: n_bytes(source.paths[slide]))
        roundings = [rounding for _, rounding in zip(watched, done, strict=True)]
    cohort = _write_cohort(file, table, out)
    before = sum(n_bytes(source.paths[slide]) for slide in wanted)
    after = sum((target / f"{slide}{SUFFIX}").stat().st_size for slide in wanted)
    return Packed(cohort, len(wanted) - len(there), len(there), before, after, max(roundings, default=0.0))


def _refuse_source(out: Path, source: FeatureFolder) -> None:
    target = (out / "features").resolve()
    for path in source.paths.values():
        if target in path.resolve().parents:
            raise UsageError(f"{out} holds the source itself. Name another folder with --out; nothing is overwritten.")


def _refuse_other_tables(out: Path) -> None:
    """Tables that lie there are lost unless an earlier call wrote them; then packed slides lie beside."""
    there = [name for name in ("labels.csv", "cohort.yaml") if (out / name).exists()]
    if there and not any((out / "features").glob(f"*{SUFFIX}")):
        raise UsageError(
            f"{out / there[0]} was not made by `data pack`. Name another folder with --out; nothing is overwritten."
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror}. Name another folder with --out.") from error


@contextmanager
def _remembered(path: Path) -> Iterator[dict[str, SlideContent]]:
    """Content that each pack was made from, by slide; what the block adds is kept, however the block ends."""
    made_from = remembered_beside([path])
    try:
        yield made_from
    finally:
        with writing(path.parent):
            in_order = dict(sorted(made_from.items()))  # threads end in any order, and the file has the same bytes
            write_atomically(path, ContentRecord(in_order).to_json())


def _largest_file(source: FeatureFolder, slides: Sequence[str]) -> int:
    return max((n_bytes(source.paths[slide]) for slide in slides), default=0)


def _threads(largest_bytes: int) -> int:
    """Slides that are packed side by side: more than one core even on a machine of one, to read while others write."""
    room = free_memory() * MEMORY_SHARE
    fitting = int(room / (COPIES * largest_bytes)) if largest_bytes else MOST_THREADS
    return max(1, min(max(usable_cores(), 2), MOST_THREADS, fitting))


def _side_by_side(work: Callable[[str], float], slides: Sequence[str], n_threads: int) -> Iterator[float]:
    """What `work` makes of each slide, in order: one is read while another is hashed and a third one written.

    As many slides as threads are in memory. What `work` raises is raised at its slide; others that were begun are ended.
    """
    with ThreadPoolExecutor(n_threads, "milbench-pack") as pool:
        begun: deque[Future[float]] = deque()
        left = iter(slides)
        try:
            for slide in left:
                begun.append(pool.submit(work, slide))
                if len(begun) > n_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pack_slide(
    source: FeatureFolder, folder: Path, dtype: str, made_from: dict[str, SlideContent], slide: str
) -> float:
    """Largest relative rounding of one slide, written now or there already; `made_from` then tells its source's content.

    Raises
    ------
    FeatureFileError : see `pack`.
    StoreError : the disk is full or the folder cannot be written.
    UsageError : `target` was made from another file or with another dtype.
    """
    target = folder / f"{slide}{SUFFIX}"
    now = content_of(slide, source.paths[slide], made_from)
    before = made_from.get(slide)
    rounding = (
        _earlier(source, slide, target, dtype, now, before)
        if target.exists()
        else _pack_anew(source, slide, target, dtype, now)
    )
    made_from[slide] = now
    return rounding


def _pack_anew(source: FeatureFolder, slide: str, target: Path, dtype: str, now: SlideContent) -> float:
    path = source.paths[slide]
    content, header = source.load(slide), source.header(slide)
    biggest = largest_value(content.features)
    features = check_features(content.features, str(path), largest=biggest)
    largest = features.new_tensor(biggest)
    if not largest.to(DTYPES[dtype]).isfinite():  # rounding keeps the order: no other value is larger
        raise FeatureFileError(
            f"{path}: values up to {largest:.3g} do not fit float16 (65504). Pack with --dtype float32."
        )
    stored = features.to(DTYPES[dtype])
    rounding = _rounding(features, stored, float(largest))
    if rounding > MOST_ROUNDED:
        raise FeatureFileError(
            f"{path}: values up to {largest:.3g} are too small for {dtype}, which would change them by "
            f"{rounding:.0%}. Pack with --dtype float32."
        )
    with writing(target.parent), replacing_file(target) as temporary:
        _write(temporary, stored, content, header, {"source": _identity(path), "largest_rounding": rounding})
        _refuse_change(slide, path, now)
    return rounding


def _identity(path: Path) -> str:
    """What a pack says of its source: both ends, so that packs of older versions are taken up."""
    return hashlib.sha256(file_ends(path)).hexdigest()


def _refuse_change(slide: str, path: Path, read: SlideContent) -> None:
    if content_of(slide, path, {slide: read}).sha256 != read.sha256:
        raise FeatureFileError(f"{path} changes while it is read. Wait until the extraction has ended.")


def _earlier(
    source: FeatureFolder, slide: str, target: Path, dtype: str, now: SlideContent, before: SlideContent | None
) -> float:
    """Rounding of a slide that an earlier call packed from the same content; another content is refused.

    Parameters
    ----------
    before : what the slide was packed from; None = not remembered, and the values are compared.
    """
    stored = head(target).dtype
    with opened(target) as file:
        told = facts(file)
    is_same = (told.get("version"), told.get("source"), stored) == (VERSION, _identity(source.paths[slide]), dtype)
    if is_same:
        is_same = _holds(target, source.load(slide), dtype) if before is None else before.sha256 == now.sha256
    if not is_same:
        raise UsageError(
            f"{target} was made from another file or as {stored}. Name another folder with --out; nothing is overwritten."
        )
    return float(told["largest_rounding"])


def _holds(target: Path, content: SlideFeatures, dtype: str) -> bool:
    """Whether the pack holds the features, coordinates and truth of `content`."""
    packed = read(target)
    pairs = [
        (packed.features, content.features.to(DTYPES[dtype])),
        (packed.coords, content.coords),
        (packed.instance_labels, content.instance_labels),
    ]
    return all(
        (mine is None and theirs is None) or (mine is not None and theirs is not None and torch.equal(mine, theirs))
        for mine, theirs in pairs
    )


def _write(path: Path, features: Tensor, content: SlideFeatures, header: SlideHeader, made: Mapping[str, Any]) -> None:
    told = {
        "version": VERSION, "sha256": sha256(features), **made, "unit": header.unit, "patch_size": header.patch_size,
        "encoder": header.encoder, "magnification": header.magnification, "source_dtype": header.dtype, "mpp": header.mpp,
        "weights_sha256": header.weights_sha256, "transform": header.transform,
        "coords_problem": content.coords_problem, "order_problem": header.order_problem,
    }  # fmt: skip
    tensors = {"features": features, "coords": content.coords, "instance_labels": content.instance_labels}
    # one text, since safetensors keeps several entries in no fixed order and files should come out the same
    metadata = {MARK: json.dumps({name: value for name, value in told.items() if value not in ("", None)})}
    write_tensors(path, {name: tensor for name, tensor in tensors.items() if tensor is not None}, metadata)


def _rounding(features: Tensor, stored: Tensor, largest: float) -> float:
    """Largest change relative to the largest value, block by block, so that the differences stay in the cache.

    A float32 less its float16 is a float32, exactly.
    """
    if not largest or features.dtype == stored.dtype:
        return 0.0
    exact = torch.promote_types(torch.promote_types(features.dtype, stored.dtype), torch.float32)
    blocks = zip(torch.split(features.reshape(-1), BLOCK), torch.split(stored.reshape(-1), BLOCK), strict=True)
    return max(largest_value(one.to(exact) - other.to(exact)) for one, other in blocks) / largest


def _write_cohort(file: CohortFile, labels: LabelTable, out: Path) -> Path:
    slides, endpoints = labels.slides, labels.endpoints
    names = [column for column in slides if column not in ("slide_id", "patient_id")]
    written = {task: written_task(task, slides[task], endpoints.get(task, BINARY), taken=names) for task in names}
    columns = {name: cells for each in written.values() for name, cells in each.columns.items()}
    table = pd.DataFrame({PATIENT: slides["patient_id"], SLIDE: slides["slide_id"], **columns})
    (out / "labels.csv").write_text(exact_csv(table), encoding="utf-8")
    tasks = {task: each.said for task, each in written.items()} if endpoints else names
    splits = file.splits if file.splits in PROTOCOLS else str(Path(file.splits).resolve())
    values = {
        "name": file.name, "labels": "labels.csv", "features": "features", "tasks": tasks, "splits": splits,
        "feature_scaling": file.feature_scaling, "n_folds": file.n_folds, "title": file.title,
        "bag": "" if file.bag == BAG_OF_A_SLIDE else file.bag, "patients": file.patients, "patch_size": file.patch_size,
        "model": dict(file.model), "trainer": dict(file.trainer),
    }  # fmt: skip
    path = out / "cohort.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value}, sort_keys=False))
    return path
