"""TCGA barcodes: `TCGA-3C-AALI-...` names the tissue source site (3C) and the patient."""

from __future__ import annotations

import re

BARCODE = re.compile(r"TCGA-([A-Z0-9]{2})-", re.IGNORECASE)


def tissue_source_site(patient_id: str) -> str | None:
    """Site that a TCGA patient or slide comes from, e.g. "3C"; None where the id is no TCGA barcode."""
    match = BARCODE.match(patient_id)
    return match[1].upper() if match else None
