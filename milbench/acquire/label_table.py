"""Mutations and slides -> one row per slide with 1 (mutated), 0 (wild type) or blank (unknown) per gene."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from milbench.acquire.cbioportal import Gene, Study
from milbench.acquire.gdc import SlideFile
from milbench.errors import AcquireError

ID_COLUMNS = ("case_id", "slide_id")
PRIMARY = "01"
"""TCGA's code of a primary solid tumour; other samples of a patient are left out."""
BARCODE = 12
"""Characters of a TCGA sample id that name the patient."""
DRIFT = 23
"""Characters of a slide id before its UUID, which may change when a slide is submitted again."""

Table = dict[str, dict[str, int]]
"""0 or 1 by patient (or slide) and gene; whoever is not in it is unknown."""


class Calls(NamedTuple):
    """Labels by patient, and what was counted on the way."""

    labels: Table
    kinds: dict[str, int]
    dropped: list[str]


class Agreement(NamedTuple):
    """How one gene's labels agree with another table's, over the slides that both know."""

    gene: str
    agree: int
    only_here: int
    only_there: int


def call(studies: Sequence[Study], genes: Sequence[Gene]) -> Calls:
    """0 or 1 for every patient with a sequenced primary tumour.

    Wild type means sequenced and no mutation of the gene returned. A patient whose primary tumour is in no list of
    sequenced samples is not in the result: unknown, never 0. Every class of mutation that is returned counts.
    """
    samples = {sample for study in studies for sample in study.sequenced}
    primary = {sample for sample in samples if sample[BARCODE + 1 :].startswith(PRIMARY)}
    labels = {sample[:BARCODE]: {gene.symbol: 0 for gene in genes} for sample in sorted(primary)}
    symbols = {gene.entrez: gene.symbol for gene in genes}
    counted = [
        one for study in studies for one in study.mutations if one.sample_id in primary and one.entrez in symbols
    ]
    for mutation in counted:
        labels[mutation.sample_id[:BARCODE]][symbols[mutation.entrez]] = 1
    kinds = Counter(mutation.kind for mutation in counted)
    return Calls(labels, dict(sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))), sorted(samples - primary))


def keep_most_mutated(calls: Calls, genes: Sequence[Gene], n: int) -> list[Gene]:
    """The `n` genes with the most mutated patients, most first; a tie goes by name."""
    patients = {gene: sum(row[gene.symbol] for row in calls.labels.values()) for gene in genes}
    return sorted(genes, key=lambda gene: (-patients[gene], gene.symbol))[:n]


def refuse_id_columns(genes: Sequence[str]) -> list[str]:
    """The genes' names, if none is that of a column of ids."""
    for gene in genes:
        if gene in ID_COLUMNS:
            raise AcquireError(f"a gene called '{gene}' would have the name of a column of ids. Leave it out.")
    return list(genes)


def write_labels(
    path: Path, slides: Sequence[SlideFile], labels: Mapping[str, Mapping[str, int | str]], columns: Sequence[str]
) -> None:
    """Write `case_id, slide_id` and the columns, one row per slide; cells of unknown patients are blank."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*ID_COLUMNS, *columns])
        for slide in slides:
            row = labels.get(slide.patient_id, {})
            writer.writerow([slide.patient_id, slide.slide_id, *(row.get(column, "") for column in columns)])


def compare(slides: Sequence[SlideFile], labels: Table, other: Table) -> list[Agreement]:
    """Agreement per gene that both have, over the slides that both know; `other` is by slide id."""
    pairs = [(labels[patient], other[there]) for patient, there in _shared(slides, labels, other)]
    genes = [
        gene for gene in dict.fromkeys(gene for row in other.values() for gene in row) if pairs and gene in pairs[0][0]
    ]
    agreements = []
    for gene in genes:
        counts = Counter((here[gene], there[gene]) for here, there in pairs if gene in there)
        agreements.append(Agreement(gene, counts[0, 0] + counts[1, 1], counts[1, 0], counts[0, 1]))
    return agreements


def _shared(slides: Sequence[SlideFile], labels: Table, other: Table) -> list[tuple[str, str]]:
    """Patient, and the slide's id in the other table: the same, or the same up to the UUID."""
    by_start = {slide_id[:DRIFT]: slide_id for slide_id in other}
    found = []
    for slide in slides:
        there = slide.slide_id if slide.slide_id in other else by_start.get(slide.slide_id[:DRIFT])
        if there and slide.patient_id in labels:
            found.append((slide.patient_id, there))
    return found
