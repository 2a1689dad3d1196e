"""The five TCGA cohorts of the M4 study: ten mutated genes each, the official `m4` splits, and endpoints by name.

Labels and features are not shipped; `milbench data fetch` gets the labels and, if wanted, public features. The
genes are those of the label tables released with the paper (Bigyehahaha/M4@192a77b, `M4_csv/10genes`); for LUAD they
differ from the ten that the paper prints. Labels of endpoints are shipped (`tcga_endpoints.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from milbench.cohorts.cohort import Cohort, read_cohort
from milbench.cohorts.cohort_file import CohortFile
from milbench.datasets import Dataset, catalogue
from milbench.datasets.tcga_endpoints import names_of, with_endpoints
from milbench.errors import DataError

LABEL_FILES = ("labels.csv", "all_{short}.csv")
FEATURE_FOLDERS = ("features", "h5_files", "pt_files")


@dataclass(frozen=True)
class TCGA:
    """What is known of one cohort before its data are seen."""

    short: str
    title: str
    n_slides: int
    n_patients: int
    genes: str
    note: str = ""


COHORTS = (
    TCGA("gbmlgg", "GBMLGG", 1022, 571, "IDH1 TP53 ATRX CIC TTN EGFR MUC16 PTEN PIK3CA FUBP1"),
    TCGA("brca", "BRCA", 1001, 937, "TP53 PIK3CA TTN MUC16 CDH1 GATA3 KMT2C MAP3K1 SYNE1 FLG"),
    TCGA("crc", "CRC", 574, 565, "AMER1 APC ARID1A ATM BRAF FBXW7 KRAS PIK3CA SMAD4 TP53"),
    TCGA("ucec", "UCEC", 529, 471, "ARID1A CTCF CTNNB1 KMT2B KMT2D PIK3CA PIK3R1 PTEN TP53 ZFHX3"),
    TCGA(
        "luad", "LUAD", 529, 466, "TP53 MUC16 CSMD3 LRP1B KRAS FAT3 KEAP1 FAT4 CDH10 PTPRD",
        note="the ten genes of the released table differ from those that the paper prints (only TP53, KRAS and KEAP1 "
        "are in both): its LUAD numbers are not like for like",
    ),
)  # fmt: skip


def tcga_file(cohort: TCGA, data_root: Path | None) -> CohortFile:
    """Place of the cohort below ``data_root/tcga-<short>``.

    Raises
    ------
    DataError : no data root, or labels or features are missing; the message draws the expected layout.
    """
    name = f"tcga-{cohort.short}"
    folder = (data_root or Path()) / name
    labels = _first(folder, [text.format(short=cohort.short) for text in LABEL_FILES]) if data_root else None
    features = _first(folder, FEATURE_FOLDERS) if data_root else None
    if labels is None or features is None:
        missing = (
            "no data root was given" if data_root is None else f"{'labels' if labels is None else 'features'} not found"
        )
        raise DataError(f"{name}: {missing}. {_expected_layout(cohort, data_root)}")
    # CLAM keeps h5_files/ and pt_files/ side by side: hand over their parent so that the reader may choose
    place = features if features.name == "features" else folder
    return CohortFile(name, labels, place, tasks=tuple(cohort.genes.split()), splits="m4", title=cohort.title)


def load_tcga(cohort: TCGA, data_root: Path | None, *, allow_missing: bool) -> Cohort:
    """The cohort that `tcga_file` finds; raises as it does."""
    file = tcga_file(cohort, data_root)
    read = read_cohort(file, allow_missing=allow_missing, notes=[cohort.note] if cohort.note else [])
    return with_endpoints(replace(read, notes=(*read.notes, *_unexpected_counts(cohort, read))), cohort.short)


def _first(folder: Path, names: list[str] | tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _expected_layout(cohort: TCGA, data_root: Path | None) -> str:
    root = data_root or "DATA_ROOT"
    return (
        "Expected\n"
        f"  {root}/\n"
        f"    tcga-{cohort.short}/\n"
        f"      labels.csv (or all_{cohort.short}.csv)   case_id, slide_id, {cohort.genes.replace(' ', ', ')}\n"
        "      features/ (or h5_files/, pt_files/)   {slide_id}.h5 or {slide_id}.pt, one per slide\n"
        "Name the folder with --data-root or the environment variable MILBENCH_DATA. `milbench data "
        f"fetch tcga-{cohort.short}` fetches the label table released with the paper; features come from your own "
        "extractor, or with `--features hipt` from HIPT's public region features (see docs/tcga.md)."
    )


def _unexpected_counts(cohort: TCGA, read: Cohort) -> list[str]:
    found = {"slides": len(read.slides), "patients": read.slides["patient_id"].nunique()}
    expected = {"slides": cohort.n_slides, "patients": cohort.n_patients}
    return [
        f"{found[what]} {what} where the study has {expected[what]}" for what in found if found[what] != expected[what]
    ]


for _cohort in COHORTS:
    catalogue(
        Dataset(
            name=f"tcga-{_cohort.short}",
            description=f"TCGA-{_cohort.title}, ten mutated genes; `milbench data fetch` or your own features",
            n_slides=_cohort.n_slides,
            n_patients=_cohort.n_patients,
            tasks=tuple(_cohort.genes.split()),
            splits="m4",
            load=partial(load_tcga, _cohort),
            file=partial(tcga_file, _cohort),
            optional_tasks=names_of(_cohort.short),
        )
    )
