"""Leaks: a last look into every file of a bundle for what must not travel, before anybody gets it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from milbench.bundles.seal import files_in
from milbench.errors import StoreError
from milbench.store.columns import read_parquet_table
from milbench.store.run import Run

SHORTEST_ID = 4
"""Letters of an id that are looked for in texts: a shorter one is in any text by chance. Columns of ids are replaced whole."""
NOT_OURS = ("plotly.min.js",)
AS_IT_IS = (".png", ".pdf", ".safetensors")
"""Files without a text that names come from; figures show models and tasks."""
WORD = r"[\w.-]+"


def refuse_leaks(folder: Path, run: Run, machine: Iterable[str], *, hidden: bool) -> None:
    """StoreError if a file holds a name or folder of this machine or, if ids are to be hidden, an id of the run."""
    forbidden = set(machine) | ({each for each in ids_of(run) if len(each) >= SHORTEST_ID} if hidden else set())
    for name in files_in(folder):
        if name in NOT_OURS or Path(name).name in NOT_OURS:
            continue
        if found := set(_found(texts_in(folder / name, name), forbidden)):
            raise StoreError(
                f"the bundle was not written, because {name} would hold '{sorted(found)[0]}', which names a machine, a user or a "
                "patient. Look where the run says so (its settings, the names of cohorts, tasks and models), and rename it there."
            )


def ids_of(run: Run) -> set[str]:
    """Ids of all slides and patients that the run knows."""
    found: set[str] = set()
    for name, facts in run.datasets.items():
        if run.label_file(name).exists():
            labels = run.labels(name)
            found |= {*labels["slide_id"], *labels["patient_id"]}
        if run.split_file(name).exists():
            found |= set(run.roles(name)["patient_id"])
        found |= {each for patient, slides in facts.get("slides_of", {}).items() for each in (patient, *slides)}
    for trial in run.trials():
        columns = trial.answer_columns()
        found |= {*columns.slide_id.values, *columns.patient_id.values}
    return found


def texts_in(path: Path, name: str) -> Iterator[str]:
    """The name of a file and every text in it; of a table every cell with text."""
    yield name
    if path.suffix == ".parquet":
        table = read_parquet_table(path)
        yield str(table.schema.metadata)
        yield from (
            str(cell) for column in table.columns for cell in column.unique().to_pylist() if isinstance(cell, str)
        )
    elif path.suffix not in AS_IT_IS:
        yield path.read_text(encoding="utf-8", errors="replace")


def _found(texts: Iterable[str], forbidden: set[str]) -> Iterator[str]:
    """Forbidden names that stand in the texts, as words or as parts between two marks."""
    lengths = {len(each) for each in forbidden}
    several = sorted(each for each in forbidden if not re.fullmatch(WORD, each))
    for text in texts:
        yield from (each for each in several if each in text)
        for word in set(re.findall(WORD, text)):
            yield from (part for length in lengths for part in _parts(word, length) if part in forbidden)


def _parts(word: str, length: int) -> Iterator[str]:
    """Parts of so many letters that begin and end where letters and digits do: "P-12" of "x_P-12.h5", and not of "xP-123"."""
    for start in range(len(word) - length + 1):
        end = start + length
        if (start == 0 or not word[start - 1].isalnum()) and (end == len(word) or not word[end].isalnum()):
            yield word[start:end]
