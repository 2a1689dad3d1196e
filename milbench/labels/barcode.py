"""TCGA barcodes: `TCGA-3C-AALI-01Z-00-DX1` names the tissue source site (3C), the patient (the first 12 characters) and more."""

from __future__ import annotations

import re

BARCODE = re.compile(r"TCGA-([A-Z0-9]{2})-", re.IGNORECASE)
PATIENT = re.compile(r"(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?![A-Z0-9])", re.IGNORECASE)

KINDS = (
    ("patient", r""),
    ("sample", r"-\d{2}[A-Z]?"),
    ("portion", r"-\d{2}[A-Z]-\d{2}[A-Z]?"),
    ("slide", r"-\d{2}[A-Z]-\d{2}-(TS|BS|MS|DX)[A-Z0-9]+"),
    ("aliquot", r"-\d{2}[A-Z]-\d{2}[A-Z]-[A-Z0-9]{4}(-\d{2})?"),
)
"""What a barcode names, by what follows the patient's part."""


def tissue_source_site(patient_id: str) -> str | None:
    """Site that a TCGA patient or slide comes from, e.g. "3C"; None where the id is no TCGA barcode."""
    match = BARCODE.match(patient_id)
    return match[1].upper() if match else None


def tcga_patient(name: str) -> str | None:
    """The patient of a barcode or of a file named after one, e.g. "TCGA-3C-AALI"; None where it is neither."""
    match = PATIENT.match(name)
    return match[1].upper() if match else None


def barcode_kind(name: str) -> str:
    """What a TCGA barcode names: "patient", "sample", "portion", "slide" or "aliquot"; any other is a "file name"."""
    rest = name[12:]
    return next((kind for kind, pattern in KINDS if re.fullmatch(pattern, rest, re.IGNORECASE)), "file name")
