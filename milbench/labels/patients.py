"""Patients: ids under which one patient may stand in a table more than once, as if they were several."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from milbench.labels.barcode import tcga_patient
from milbench.labels.meaning import STROKES

SUFFIX = re.compile(
    r"\.(svs|ndpi|tiff?|mrxs|scn|bif|czi|dcm|isyntax|vms|h5|hdf5|pt|npy|npz|safetensors|zarr)$", re.IGNORECASE
)
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))


LOOK_ALIKE = str.maketrans("авекмнорстухіјѕԁԛԝαβεζηικμνορτυχ_", "abekmhopctyxijsdqwabezhikmnoptyx-") | STROKES
"""Small Cyrillic and Greek letters whose capitals or they themselves look Latin; the strokes of other keyboards."""

ONE_NUMBER = re.compile(r"(\D*)0+(\d+\D*)")
"""Id of one number with zeros in front. Ids of several numbers may differ by a zero's place."""


def spelling(patient_id: str) -> str:
    """The patient whatever the id's case, blanks, strokes, look-alike letters or `.0` behind a number; of a TCGA barcode its patient."""
    text = unicodedata.normalize("NFKC", patient_id).translate(INVISIBLE).casefold().translate(LOOK_ALIKE)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"^(\d+)\.0+$", r"\1", text)
    barcode = tcga_patient(text)
    return barcode.casefold() if barcode else text


def differ_in_zeros(patients: Iterable[str]) -> list[tuple[str, ...]]:
    """Ids that are one number if the zeros in front are dropped, as a spreadsheet does: 007 and 7."""
    ids: dict[str, list[str]] = defaultdict(list)
    for patient in patients:
        text = spelling(patient)
        ids[ONE_NUMBER.sub(r"\1\2", text) if ONE_NUMBER.fullmatch(text) else text].append(patient)
    return [tuple(found) for found in ids.values() if len(set(map(spelling, found))) > 1]


def parted(slides: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Ids under which one patient stands, by the patient: two or more that are spelt alike, or whose slides are of one TCGA patient."""
    owner: dict[str, str] = {}
    ids: dict[str, list[str]] = defaultdict(list)
    for slide, patient in zip(slides["slide_id"], slides["patient_id"], strict=True):
        name = owner.setdefault(patient, _owner(slide, patient))
        if patient not in ids[name]:
            ids[name].append(patient)
    return {name: tuple(found) for name, found in ids.items() if len(found) > 1}


def _owner(slide: str, patient: str) -> str:
    """The TCGA patient that the patient's id tells, else the slide's; where neither is a barcode the id's spelling."""
    return tcga_patient(spelling(patient)) or tcga_patient(slide) or spelling(patient)


def own_slide(slides: pd.DataFrame) -> bool:
    """Whether every patient is called as its slide, so that each slide counts as a patient of its own."""
    pairs = zip(slides["slide_id"], slides["patient_id"], strict=True)
    return len(slides) > 0 and all(without_suffix(slide) == without_suffix(patient) for slide, patient in pairs)


def without_suffix(name: str) -> str:
    """The name without the ending of a slide's or a feature file's format."""
    return SUFFIX.sub("", name)


def longer_barcodes(patients: Iterable[str]) -> list[str]:
    """TCGA barcodes that name more than a patient, or files named after one."""
    return [patient for patient in patients if (found := tcga_patient(patient)) and len(patient) > len(found)]
