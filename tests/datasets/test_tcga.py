"""The catalogue's TCGA entries: what they expect, and what they say when it is not there."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from folders_for_tests import write_h5
from places import SHARED

from milbench.datasets import all_datasets, catalogue, dataset
from milbench.datasets.tcga import COHORTS
from milbench.errors import DataError, UsageError

TABLES = SHARED / "data" / "tcga_labels"


def make_tcga(root: Path, genes: tuple[str, ...], labels: str = "labels.csv", place: str = "h5_files") -> None:
    folder = root / "tcga-crc"
    (folder / place).mkdir(parents=True)
    slides = [f"TCGA-A{i}-DX1.X" for i in range(12)]
    columns = {gene: np.arange(12) % 2 for gene in genes}
    pd.DataFrame({"case_id": slides, "slide_id": slides, **columns}).to_csv(folder / labels, index=False)
    for slide in slides:
        write_h5(folder / place / f"{slide}.h5", np.ones((2, 4), dtype=np.float32))


def test_the_five_cohorts_are_in_the_catalogue_with_ten_genes_each() -> None:
    names = [name for name in all_datasets() if name.startswith("tcga-")]
    assert (
        names
        == [f"tcga-{c.short}" for c in COHORTS]
        == ["tcga-gbmlgg", "tcga-brca", "tcga-crc", "tcga-ucec", "tcga-luad"]
    )
    assert all(len(dataset(name).tasks) == 10 and dataset(name).splits == "m4" for name in names)


@pytest.mark.parametrize(("labels", "place"), [("labels.csv", "h5_files"), ("all_crc.csv", "features")])
def test_labels_and_features_are_found_where_they_are_expected(tmp_path: Path, labels: str, place: str) -> None:
    make_tcga(tmp_path, dataset("tcga-crc").tasks, labels, place)
    cohort = dataset("tcga-crc").load(tmp_path, allow_missing=False)
    assert cohort.tasks == dataset("tcga-crc").tasks
    assert "12 slides where the study has 574" in cohort.notes


def test_missing_data_draw_the_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"(?s)no data root was given.*tcga-luad/\n.*--data-root.*MILBENCH_DATA"
    ) as error:
        dataset("tcga-luad").load(None, allow_missing=False)
    assert "features/ (or h5_files/, pt_files/)" in str(error.value)
    with pytest.raises(DataError, match="labels not found"):
        dataset("tcga-luad").load(tmp_path, allow_missing=False)


def test_a_table_that_lacks_a_gene_is_refused(tmp_path: Path) -> None:
    make_tcga(tmp_path, dataset("tcga-crc").tasks[1:])
    with pytest.raises(DataError, match="unknown task 'AMER1'"):
        dataset("tcga-crc").load(tmp_path, allow_missing=False)


def test_two_datasets_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two datasets are called 'tcga-crc'"):
        catalogue(dataset("tcga-crc"))


def test_an_unknown_dataset_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tcga-brca'"):
        dataset("tcga-barca")


@pytest.mark.realdata
@pytest.mark.skipif(not TABLES.exists(), reason="the label tables are not beside the checkout")
@pytest.mark.parametrize("cohort", COHORTS, ids=lambda cohort: cohort.short)
def test_genes_and_sizes_are_those_of_the_released_tables(cohort: object) -> None:
    table = pd.read_csv(TABLES / f"all_{cohort.short}.csv", dtype=str)
    assert list(table.columns[2:]) == cohort.genes.split()
    assert (len(table), table["case_id"].nunique()) == (cohort.n_slides, cohort.n_patients)


@pytest.mark.realdata
@pytest.mark.skipif(not TABLES.exists(), reason="the label tables are not beside the checkout")
@pytest.mark.parametrize("cohort", COHORTS, ids=lambda cohort: cohort.short)
def test_a_complete_cohort_loads_without_a_word_of_complaint(cohort: object, tmp_path: Path) -> None:
    """The released table beside stand-ins for its features; only LUAD has something to say."""
    folder = tmp_path / f"tcga-{cohort.short}"
    (folder / "pt_files").mkdir(parents=True)
    shutil.copy(TABLES / f"all_{cohort.short}.csv", folder)
    for slide in pd.read_csv(TABLES / f"all_{cohort.short}.csv", dtype=str)["slide_id"]:
        torch.save(torch.zeros(1, 2), folder / "pt_files" / f"{slide}.pt")
    loaded = dataset(f"tcga-{cohort.short}").load(tmp_path, allow_missing=False)
    assert (len(loaded.slides), loaded.slides["patient_id"].nunique()) == (cohort.n_slides, cohort.n_patients)
    assert loaded.slides[list(loaded.tasks)].notna().all().all()
    said = [note for note in loaded.notes if not note.startswith(("CLAM: ", "labels: "))]
    assert len(said) == (cohort.short == "luad")
