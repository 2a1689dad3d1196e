"""Stage: the four stages of a tumour, whatever letters follow."""

from __future__ import annotations

import re

STAGES = ("I", "II", "III", "IV")
"""In their order. Sub-stages differ between tumours and editions of the staging, and many have few patients."""

_STAGE = re.compile(r"(?:stage\s+)?(I|II|III|IV)(?:[A-D]\d?)?", re.IGNORECASE)


def stage_of(cell: str) -> str:
    """One of `STAGES`: "Stage IIIC2" and "IIIC2" are "III". Empty for all that is no such stage, such as "Stage X" or "0"."""
    found = _STAGE.fullmatch(cell.strip())
    return found[1].upper() if found else ""
