"""Tables of labels in a folder of their own, read as cohort.yaml says; and real tables of endpoints, where they lie."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import SHARED

from milbench.cohorts.cohort_file import cohort_file
from milbench.labels import LabelTable

ENDPOINTS = SHARED / "endpoints" / "data"


def rows(columns: str, *cells: str) -> str:
    """A table of slides s0, s1, ... of patients p0, p1, ... with these cells."""
    lines = [f"p{number},s{number},{cell}" for number, cell in enumerate(cells)]
    return "\n".join([f"case_id,slide_id,{columns}", *lines]) + "\n"


def labels_of(folder: Path, table: str, tasks: Mapping[str, Any] | Sequence[str], **more: Any) -> LabelTable:
    """The labels of a table as a cohort.yaml with these tasks reads them."""
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    said = {"name": "toy", "labels": "labels.csv", "features": ".", "tasks": tasks, **more}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    return cohort_file(folder / "cohort.yaml").label_table()


def real_table(name: str) -> str:
    """A real table of endpoints with a slide id per line; the test is skipped where it does not lie."""
    path = ENDPOINTS / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    text = gzip.decompress(path.read_bytes()).decode()
    header, _, lines = text.partition("\n")
    if "slide_id" in header.split(","):
        return text
    with_ids = [f"slide{number},{line}" for number, line in enumerate(lines.splitlines())]
    return "\n".join([f"slide_id,{header}", *with_ids]) + "\n"
