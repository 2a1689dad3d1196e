"""Patient bags: a cohort in which the slides of each patient are one bag (`bag: patient` in cohort.yaml).

A bag is called as its patient. It joins the features of the patient's slides in the order of their ids, whatever the order
of the label table. `Bag.slides` keeps each slide with its own coordinates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import pandas as pd
import torch

from milbench.bag import Bag
from milbench.cohorts.bag_names import PATIENT
from milbench.endpoints.endpoint import BINARY, Endpoint
from milbench.endpoints.fit import patient_labels
from milbench.errors import FeatureFileError
from milbench.formats import SlideHeader
from milbench.formats.scale import is_one_scale
from milbench.labels.finding import some

if TYPE_CHECKING:
    from milbench.cohorts.cohort import Cohort

APART = "the bag joins {} slides, and each has coordinates of its own"
FIX = "Extract the slides of a patient alike, or write `bag: slide` in cohort.yaml."

Members = Mapping[str, tuple[str, ...]]
"""Slide ids by bag, in the order in which the bag joins them."""


def by_patient(cohort: Cohort) -> Cohort:
    """The cohort with one bag per patient in place of one per slide; `of_slides` keeps the cohort that it was.

    >>> by_patient(Cohort("circles", slides, ("round",), 8, "", load)).load("p7").slides
    (Bag(slide-14: 20 × 8 torch.float32), Bag(slide-15: 20 × 8 torch.float32))
    """
    members = slides_by_patient(cohort.slides)
    slide_header = cohort.header
    header = None if slide_header is None else joining_header(members, slide_header)
    return replace(
        cohort,
        slides=patient_table(cohort.slides, cohort.every_task, cohort.endpoints),
        fingerprint=patient_fingerprint(cohort.fingerprint) if cohort.fingerprint else "",
        load=joining_load(members, cohort.load, header),
        header=header,
        labelled=cohort.patients_from,
        notes=(*cohort.notes, *_notes(members, cohort)),
        of_slides=cohort,
    )


def slides_by_patient(slides: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Sorted slide ids of each patient; patients in the order of their first slides."""
    groups = slides.groupby("patient_id", sort=False)["slide_id"]
    return {str(patient): tuple(sorted(map(str, ids))) for patient, ids in groups}


def patient_table(slides: pd.DataFrame, tasks: Sequence[str], endpoints: Mapping[str, Endpoint]) -> pd.DataFrame:
    """One row per patient, called as its patient, with the label that `patient_labels` gives."""
    patients = list(dict.fromkeys(slides["patient_id"]))
    labels = {task: patient_labels(slides, task, endpoints.get(task, BINARY)).to_numpy(dtype=float) for task in tasks}
    return pd.DataFrame({"slide_id": patients, "patient_id": patients, **labels})


def patient_fingerprint(of_slides: str) -> str:
    """Identity of the joined cohort: that of its slides, and that they are joined."""
    return hashlib.sha256(f"bag: {PATIENT}\n{of_slides}".encode()).hexdigest()


def joined(patient_id: str, slides: Sequence[Bag]) -> Bag:
    """One bag of all slides, in the order given. The bag of one slide has the slide's own features and coordinates.

    Raises
    ------
    FeatureFileError : features of several widths.
    """
    if len(slides) == 1:
        return replace(slides[0], slide_id=patient_id, patient_id=patient_id, slides=(slides[0],))
    widths = {slide.slide_id: slide.features.shape[1] for slide in slides}
    if different := _different("widths", widths):
        raise FeatureFileError(f"patient '{patient_id}': {different}. {FIX}")
    features = torch.cat([slide.features for slide in slides])
    rows = torch.split(features, [len(slide) for slide in slides])
    truths = [slide.instance_labels for slide in slides]
    known = [truth for truth in truths if truth is not None]
    is_known = len(known) == len(slides) and len({truth.shape[1] for truth in known}) == 1
    return Bag(
        features,
        patient_id,
        patient_id,
        instance_labels=torch.cat(known) if is_known else None,
        coords_problem=APART.format(len(slides)),
        slides=tuple(replace(slide, features=own) for slide, own in zip(slides, rows, strict=True)),
    )


def joined_header(headers: Sequence[SlideHeader]) -> SlideHeader:
    """What the files of a patient's slides say together: patches are added up, and the dtype holds all values."""
    if len(headers) == 1:
        return headers[0]
    dtypes = [getattr(torch, header.dtype, torch.float32) for header in headers]
    dtype = str(reduce(torch.promote_types, dtypes)).removeprefix("torch.")
    n_patches = sum(header.n_patches for header in headers)
    return headers[0]._replace(n_patches=n_patches, dtype=dtype, coords_problem=APART.format(len(headers)))


def why_not_joined(headers: Mapping[str, SlideHeader]) -> str:
    """Why these slides of one patient make no bag; empty if they do.

    Patch sizes are compared in level-0 pixels, so they differ between scanners. If all files tell one and the same
    magnification, or mpp within 2 %, the patches show the same tissue, and their size in pixels may differ.
    """
    scales = [[getattr(header, scale) for header in headers.values()] for scale in ("magnification", "mpp")]
    is_of_one_scale = any(None not in told and is_one_scale(told) for told in scales)
    told: dict[str, dict[str, object]] = {
        "widths": {slide: header.width for slide, header in headers.items()},
        "encoders": {slide: header.encoder.casefold() for slide, header in headers.items() if header.encoder},
        "weights of the encoder": {
            slide: header.weights_sha256 for slide, header in headers.items() if header.weights_sha256
        },
        "patch sizes": {
            slide: f"{header.patch_size:g} {header.unit}"
            for slide, header in headers.items()
            if header.patch_size is not None and not is_of_one_scale
        },
    }
    return next(filter(None, (_different(what, values) for what, values in told.items())), "")


def unlike_slides(members: Members, headers: Mapping[str, SlideHeader]) -> dict[str, str]:
    """Why slides cannot be joined, by patient; those whose headers are not known are left out."""
    told = {
        patient: why_not_joined({slide: headers[slide] for slide in slides if slide in headers})
        for patient, slides in members.items()
    }
    return {patient: why for patient, why in told.items() if why}


def _different(what: str, values: Mapping[str, object]) -> str:
    """ "slides have different widths: 6 (s1), 8 (s2)"; empty if all are equal."""
    first: dict[str, str] = {}
    for slide, value in values.items():
        first.setdefault(str(value), slide)
    shown = some([f"{value} ({slide})" for value, slide in first.items()])
    return f"slides have different {what}: {shown}" if len(first) > 1 else ""


def joining_header(members: Members, slide_header: Callable[[str], SlideHeader]) -> Callable[[str], SlideHeader]:
    """Function from a patient to the header of the patient's bag; it raises `FeatureFileError` if slides make no bag."""

    def header(patient: str) -> SlideHeader:
        found = {slide: slide_header(slide) for slide in members[patient]}
        if why := why_not_joined(found):
            raise FeatureFileError(f"patient '{patient}': {why}. {FIX}")
        return joined_header(list(found.values()))

    return header


def joining_load(
    members: Members, load_slide: Callable[[str], Bag], header: Callable[[str], SlideHeader] | None
) -> Callable[[str], Bag]:
    """Function from a patient to the patient's bag; raises as `load_slide`, and as `header` where files tell what they hold."""
    checked: set[str] = set()

    def load(patient: str) -> Bag:
        if header is not None and patient not in checked:
            header(patient)  # once, because some formats have no header and are read whole for it
            checked.add(patient)
        return joined(patient, [load_slide(slide) for slide in members[patient]])

    return load


def _notes(members: Members, cohort: Cohort) -> list[str]:
    most = max(members, key=lambda patient: len(members[patient]))
    told = (
        f"bag: {PATIENT}: {len(cohort.slides)} slides are joined into {len(members)} bags, one per patient, at most "
        f"{len(members[most])} slide{'s' * (len(members[most]) != 1)} each ({most})"
    )
    there = set(cohort.slides["slide_id"])
    missing: dict[str, list[str]] = {}
    for slide, patient in cohort.patients_from[["slide_id", "patient_id"]].itertuples(index=False, name=None):
        if slide not in there and patient in members:
            missing.setdefault(patient, []).append(slide)
    if not missing:
        return [told]
    shown = some([f"{patient} without {', '.join(slides)}" for patient, slides in missing.items()])
    return [told, f"bags of {len(missing)} patients lack slides that have no features ({shown})"]
