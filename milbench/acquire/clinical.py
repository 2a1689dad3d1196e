"""What a study says of its patients beside mutations: cBioPortal's clinical attributes.

Routes and fields were read in the portal's sources and in programs that ask the public instance; tried against a local
server only. An attribute belongs to patients or to samples, and the portal tells which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from milbench.acquire.cbioportal import PAGE
from milbench.acquire.http import Http, rows_of
from milbench.acquire.label_table import BARCODE, PRIMARY
from milbench.errors import AcquireError

Values = Mapping[str, tuple[str, ...]]
"""Different values by patient, sorted; more than one if the study contradicts itself."""


class Clinical(NamedTuple):
    """What one study says.

    Attributes
    ----------
    attributes : ids of all clinical attributes of the study.
    values : by attribute, of those asked for that the study has.
    """

    study_id: str
    attributes: frozenset[str]
    values: Mapping[str, Values]


def read_clinical(client: Http, url: str, study_id: str, wanted: Sequence[str]) -> Clinical:
    """The study's values of the attributes `wanted`, as far as it has them. Of samples, only primary tumours count.

    Raises
    ------
    AcquireError : the study is unknown, or the portal cannot be reached or answers something else.
    """
    levels = _levels(client, url, study_id)
    asked = [attribute for attribute in wanted if attribute in levels]
    values = {attribute: _values(client, url, study_id, attribute, levels[attribute]) for attribute in asked}
    return Clinical(study_id, frozenset(levels), values)


def merged(studies: Sequence[Clinical]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Different values by attribute and patient, over all studies."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for study in studies:
        for attribute, values in study.values.items():
            of_all = found.setdefault(attribute, {})
            for patient, own in values.items():
                of_all[patient] = tuple(sorted({*of_all.get(patient, ()), *own}))
    return found


def _levels(client: Http, url: str, study_id: str) -> dict[str, str]:
    """ "PATIENT" or "SAMPLE" by attribute."""
    where = f"{url}/studies/{study_id}/clinical-attributes"

    def check(answer: Any) -> None:
        for row in rows_of(where, answer, {"clinicalAttributeId": str}):
            if not isinstance(row.get("patientAttribute"), bool):
                raise AcquireError(
                    f"{where}: 'patientAttribute' of {row['clinicalAttributeId']} is neither true nor false. "
                    "The server's API differs."
                )

    rows = client.json(where, check=check)
    return {row["clinicalAttributeId"]: "PATIENT" if row["patientAttribute"] else "SAMPLE" for row in rows}


def _values(client: Http, url: str, study_id: str, attribute: str, level: str) -> Values:
    """Pages until one is short or brings nothing new, in case a server has no pages and repeats itself."""
    needed = {
        "clinicalAttributeId": str,
        "patientId": str,
        "value": str,
        **({"sampleId": str} if level == "SAMPLE" else {}),
    }
    found: dict[str, set[str]] = {}
    seen: set[tuple[str, str, str]] = set()
    for number in range(10_000):
        where = (
            f"{url}/studies/{study_id}/clinical-data?attributeId={attribute}&clinicalDataType={level}"
            f"&projection=SUMMARY&pageSize={PAGE}&pageNumber={number}"
        )
        rows = client.rows(where, needed)
        new = {_cell(row) for row in rows if row["clinicalAttributeId"] == attribute} - seen
        seen |= new
        for patient, sample, value in new:
            if value and (level == "PATIENT" or sample[BARCODE + 1 :].startswith(PRIMARY)):
                found.setdefault(patient, set()).add(value)
        if len(rows) != PAGE or not new:
            break
    return {patient: tuple(sorted(found[patient])) for patient in sorted(found)}


def _cell(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["patientId"], row.get("sampleId", ""), row["value"].strip()
