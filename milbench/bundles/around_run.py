"""Around the run: the files of a bundle that follow from `bundle.json`, and what `bundle.json` says of the run.

People and repositories read these files before any table. So what they say is held against what they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from milbench.bundles.crate import description, licence_told
from milbench.bundles.difference import Difference
from milbench.bundles.layout import CHECKSUMS, CITATION, CRATE, HEADER, README, REPORT, Header
from milbench.bundles.reading import citation, readme
from milbench.bundles.seal import listed_in
from milbench.labels.finding import some
from milbench.report.html.page import PLOTLY
from milbench.store.run import Run

LICENCE_LINES = 1000
"""Bytes at the start of plotly.js that hold its version."""


def around_run_differences(root: Path, header: Header, run: Run) -> Iterator[Difference]:
    """What the files around the run say that does not follow from the bundle."""
    yield from _of_header(header, run)
    for name, text in ((README, readme(header)), (CITATION, citation(header))):
        if not (root / name).is_file() or (root / name).read_bytes() != text.encode():
            yield Difference(name, f"is not the text that follows from {HEADER}")
    if (root / CRATE).is_file():
        yield from (Difference(CRATE, what) for what in _of_crate(root, header))
    script = root / REPORT / PLOTLY
    if _start(script) == _start(ours := plotly()) and script.read_bytes() != ours.read_bytes():
        yield Difference(f"{REPORT}/{PLOTLY}", "is not the plotly.js of the version that it names")


def other_plotly(root: Path) -> bool:
    """Whether the page's plotly.js is of another version than the one installed, so that nothing can be held against it."""
    return _start(root / REPORT / PLOTLY) != _start(plotly())


def plotly() -> Path:
    """plotly.js of the installed plotly."""
    return Path(str(files("plotly").joinpath("package_data", PLOTLY)))


def _start(script: Path) -> bytes:
    """The comment that plotly.js begins with; b"" if there is no file."""
    if not script.is_file():
        return b""
    with script.open("rb") as file:
        return file.read(LICENCE_LINES).partition(b"*/")[0]


def _of_header(header: Header, run: Run) -> Iterator[Difference]:
    """Places that `bundle.json` calls empty and are not, and a date that is not the last trial's."""
    planned = {trial_id.rpartition("-")[0]: trial_id for trial_id in run.planned().values()}
    odd = sorted(place for place in header.missing if place not in planned or run.has_record(planned[place]))
    if odd:
        yield Difference(
            HEADER, f"calls {len(odd)} trial(s) missing that are there or that nobody planned: {some(odd)}"
        )
    dates = [str(trial.info["finished_at"]) for trial in run.trials()]
    if dates and header.finished_at != max(dates):
        yield Difference(
            HEADER, f"says that the run was finished at {header.finished_at[:40]}; its trials say {max(dates)}"
        )


def _of_crate(root: Path, header: Header) -> Iterator[str]:
    """What the metadata for repositories say otherwise than the bundle."""
    try:
        graph = json.loads((root / CRATE).read_bytes())["@graph"]
        entities = {unquote(str(each["@id"])): each for each in graph}
    except (ValueError, KeyError, TypeError, RecursionError):
        yield "cannot be read"
        return
    told = {"name": header.title, "description": description(header), "license": licence_told(header),
            "datePublished": header.finished_at}  # fmt: skip
    whole = entities.get("./", {})
    yield from (f"says another {key} than {HEADER}" for key, value in told.items() if whole.get(key) != value)
    theirs = {
        name: str(entity.get("sha256")) for name, entity in entities.items() if _is_file(entity) and name != CRATE
    }
    try:
        ours = listed_in(root)
    except (OSError, ValueError):  # which is a difference of its own
        return
    if other := sorted({name for name, _ in theirs.items() ^ ours.items()} - {CRATE}):
        yield f"lists other files or checksums than {CHECKSUMS}: {some(other)}"


def _is_file(entity: Mapping[str, Any]) -> bool:
    kind = entity.get("@type")
    return kind == "File" or (isinstance(kind, list) and "File" in kind)
