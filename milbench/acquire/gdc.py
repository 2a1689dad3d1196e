"""The diagnostic slides that the GDC lists, and a manifest for its own client to download them.

Query and fields as in the GDC's documentation (NCI-GDC/gdc-docs@880f321); tried against a local server only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from milbench.acquire.http import Http, rows_of
from milbench.errors import AcquireError
from milbench.names import is_folder_name

GDC_URL = "https://api.gdc.cancer.gov"
PAGE = 500
FILE_FIELDS = {"file_id": str, "file_name": str, "md5sum": str, "file_size": int, "cases": list}
MOST_SLIDES = 1_000_000
"""A hundred times what the whole GDC has: a larger total is a mistake, and would be asked for page by page."""
FIELDS = "file_id,file_name,md5sum,file_size,state,access,cases.submitter_id"


class SlideFile(NamedTuple):
    """One diagnostic slide at the GDC."""

    slide_id: str
    patient_id: str
    file_id: str
    file_name: str
    md5: str
    bytes: int
    state: str


def diagnostic_slides(client: Http, url: str, projects: Sequence[str], *, page: int = PAGE) -> list[SlideFile]:
    """Every diagnostic slide of the projects, by slide id, none twice.

    Raises
    ------
    AcquireError : there is none, or the pages do not add up to the total that the GDC names.
    """
    found: dict[str, dict[str, Any]] = {}
    total, start = 1, 0
    while start < total:
        hits, total = _page(client, f"{url}/files", _question(projects, start, page))
        found |= {hit["file_id"]: hit for hit in hits}
        start += page
    if len(found) != total:
        raise AcquireError(
            f"{url}/files named {total} diagnostic slides of {', '.join(projects)} and listed {len(found)} different "
            "ones: its pages overlap or it changed meanwhile. Give the same command again with --refresh."
        )
    if not found:
        raise AcquireError(
            f"{url}/files has no diagnostic slide of {', '.join(projects)}. Check the project ids (such as TCGA-BRCA)."
        )
    return _without_odd_names(f"{url}/files", sorted(_slide(hit) for hit in found.values()))


def _without_odd_names(where: str, slides: list[SlideFile]) -> list[SlideFile]:
    """`slides` unchanged, if each has a name of its own that a feature file can have."""
    counts = Counter(slide.slide_id for slide in slides)
    for name, count in counts.items():
        if count > 1 or not is_folder_name(name):
            what = f"{count} slides called '{name}'" if count > 1 else f"a slide called '{name}'"
            raise AcquireError(f"{where} names {what}, so no feature file can be told to be its. Is it the GDC's API?")
    return slides


def write_manifest(slides: Sequence[SlideFile], path: Path) -> None:
    """Write the table that `gdc-client download -m` takes."""
    lines = [f"{one.file_id}\t{one.file_name}\t{one.md5}\t{one.bytes}\t{one.state}" for one in slides]
    path.write_text("\n".join(["id\tfilename\tmd5\tsize\tstate", *lines]) + "\n", encoding="utf-8")


def _question(projects: Sequence[str], start: int, page: int) -> dict[str, Any]:
    wanted = {
        "cases.project.project_id": sorted(projects),
        "data_format": ["SVS"],
        "experimental_strategy": ["Diagnostic Slide"],
    }
    content = [{"op": "in", "content": {"field": field, "value": value}} for field, value in wanted.items()]
    filters = {"op": "and", "content": content}
    return {"filters": filters, "fields": FIELDS, "sort": "file_id:asc", "size": page, "from": start, "format": "JSON"}


def _page(client: Http, where: str, question: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The page's files, and how many there are on all pages."""
    return _hits(where, client.json(where, question, check=lambda answer: _hits(where, answer)))


def _hits(where: str, answer: Any) -> tuple[list[dict[str, Any]], int]:
    try:
        hits, total = answer["data"]["hits"], int(answer["data"]["pagination"]["total"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AcquireError(f"{where} answered without data.hits and data.pagination. Is it the GDC's API?") from None
    if total > MOST_SLIDES:
        raise AcquireError(f"{where} names {total} diagnostic slides, more than there can be. Is it the GDC's API?")
    rows = rows_of(where, hits, FILE_FIELDS, {"state": str})
    for row in rows:
        rows_of(where, row["cases"], {}, {"submitter_id": str})
    return rows, total


def _slide(hit: dict[str, Any]) -> SlideFile:
    # no sample is asked for: some diagnostic slides hang off a portion and have no sample path
    name, cases = hit["file_name"], hit["cases"]
    patient = cases[0].get("submitter_id", "") if cases else ""
    state = hit.get("state", "released")
    return SlideFile(
        name.removesuffix(".svs"), patient or name[:12], hit["file_id"], name, hit["md5sum"], hit["file_size"], state
    )
