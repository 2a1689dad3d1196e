"""Layout: the files of a bundle, and `bundle.json`, which says how the bundle came about."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from milbench.errors import StoreError
from milbench.names import is_folder_name
from milbench.store.files import json_bytes
from milbench.store.headers import read_json
from milbench.store.shape import fields, flag, list_of, text, whole

HEADER, README, CITATION = "bundle.json", "README.md", "CITATION.cff"
CRATE, CHECKSUMS = "ro-crate-metadata.json", "checksums.sha256"
RUNS, REPORT = "runs", "report"

BUNDLE_FORMAT = 1
"""Version of the layout, raised when an older milbench could misread a bundle."""

NOT_DECLARED = "not declared"

_SHAPE = fields(
    {
        "milbench_bundle": whole(1, 10**6),
        "milbench": text,
        "run": text,
        "title": text,
        "authors": list_of(text),
        "licence": text,
        "anonymised": flag,
        "salt": text,
        "weights": flag,
        "reference": text,
        "highlight": text,
        "draws": whole(1, 10**9),
        "complete_cases": flag,
        "missing": list_of(text),
        "finished_at": text,
    },
)


@dataclass(frozen=True)
class Header:
    """What `bundle.json` holds.

    Attributes
    ----------
    milbench : version that made the bundle.
    run : name of the run, whose folder is `runs/NAME`.
    title, authors, licence : as declared by who made the bundle.
    anonymised : whether ids are keyed hashes.
    salt : sixteen digits that tell one salt from another and do not give it away; "" if ids are as they were.
    weights : whether the bundle holds trained weights.
    reference, highlight, draws, complete_cases : how the report was made.
    missing : places of the plan that no finished trial filled when the bundle was made.
    finished_at : when the last trial of the run was done.
    """

    milbench: str
    run: str
    title: str
    authors: tuple[str, ...]
    licence: str
    anonymised: bool
    salt: str
    weights: bool
    reference: str
    highlight: str
    draws: int
    complete_cases: bool
    missing: tuple[str, ...]
    finished_at: str

    @property
    def run_folder(self) -> Path:
        """Where the run lies, seen from the bundle."""
        return Path(RUNS) / self.run

    def to_json(self) -> bytes:
        """The file."""
        return json_bytes({"milbench_bundle": BUNDLE_FORMAT, **asdict(self)})


def read_header(root: Path) -> Header:
    """What the bundle in the folder `root` says of itself.

    Raises
    ------
    StoreError : there is none, it is damaged, or of a newer milbench.
    """
    values: dict[str, Any] = dict(read_json(root / HEADER, _SHAPE))
    if values.pop("milbench_bundle") > BUNDLE_FORMAT:
        raise StoreError(f"{root / HEADER} was written by milbench {values['milbench']}. Update milbench to read it.")
    if not is_folder_name(values["run"]):
        raise StoreError(f"{root / HEADER} names a run {ascii(values['run'])[:80]}, and no folder can be called so.")
    known: dict[str, Any] = {}
    for each in dataclasses.fields(Header):
        value = values[each.name]
        known[each.name] = tuple(value) if isinstance(value, list) else value
    return Header(**known)
