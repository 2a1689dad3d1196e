"""`milbench data inspect`: what a folder holds, and a draft that runs."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from commands_for_tests import FAST, Milbench
from formats_for_tests import WRITERS, Slide, Writer, trident_h5, wsidata
from zarr_stores import write_table

from milbench.formats import open_features
from milbench.formats.linked import n_bytes
from milbench.intake.inspection import draft, find_labels, inspect_folder

N_SLIDES = 24


def folder_of(writer: Writer, root: Path) -> tuple[Path, str]:
    """Features in one layout with a label table beside; one learnable task."""
    rng = np.random.default_rng(0)
    slides, rows = {}, []
    for i in range(N_SLIDES):
        n = 1 if i == 3 else int(rng.integers(4, 9))
        features = (rng.standard_normal((n, 5)) + 2 * (i % 2)).astype(np.float32)
        slides[f"S{i:02d}.a"] = Slide(features, np.stack([np.arange(n) % 5 * 256, np.arange(n) // 5 * 256], axis=1))
        rows.append((f"P{i // 2 if i < 4 else i:02d}", f"S{i:02d}.a", i % 2))
    folder, expected = writer(root / "data", slides)
    pd.DataFrame(rows, columns=["case_id", "slide_id", "A"]).to_csv(folder / "labels.csv", index=False)
    return folder, expected.name


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_from_a_folder_to_a_finished_run_in_two_commands(
    writer: Writer, tmp_path: Path, milbench_here: Milbench
) -> None:
    folder, name = folder_of(writer, tmp_path)
    inspected = milbench_here("data", "inspect", str(folder), "--out", "draft.yaml")
    assert inspected.returncode == 0, inspected.stderr
    assert f"{name}: {N_SLIDES} " in " ".join(inspected.stdout.split())
    assert yaml.safe_load((tmp_path / "draft.yaml").read_text())["labels"].endswith("labels.csv")
    ran = milbench_here(
        "run", "--cohort", "draft.yaml", "--models", "mean_pooling", "--folds", "0", "--workers", "1", *FAST
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 trials done" in ran.stdout


def test_a_cohort_is_not_named_after_its_encoder(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    for called, name in (("features_uni_v1", tmp_path.name), ("brca", "brca")):
        folder = folder.rename(tmp_path / called)
        assert milbench_here("data", "inspect", str(folder), "--out", f"{name}.yaml").returncode == 0
        assert yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["name"] == name


def test_every_fact_is_said(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    said = " ".join(milbench_here("data", "inspect", str(folder)).stdout.split())
    for fact in (
        "slides 24", "patches 1 to 8", "width 5", "dtype float32", "encoder uni_v1", "magnification 20×",
        "coordinates level-0 px", "patch size 512 level-0 px", "24 of these slides",
    ):  # fmt: skip
        assert fact in said


def test_a_draft_overwrites_nothing(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    (tmp_path / "cohort.yaml").write_text("mine")
    refused = milbench_here("data", "inspect", str(folder))
    assert refused.returncode == 2
    assert "cohort.yaml exists and was left as it is" in refused.stderr
    assert (tmp_path / "cohort.yaml").read_text() == "mine"


def test_without_labels_the_draft_says_what_is_wanted(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    (folder / "labels.csv").unlink()
    assert "none found" in milbench_here("data", "inspect", str(folder)).stdout
    assert "labels: labels.csv   # not found" in (tmp_path / "cohort.yaml").read_text()


def test_unreadable_and_mixed_files_are_shown(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    (folder / "S05.a.h5").write_bytes(b"no HDF5")
    with h5py.File(folder / "S06.a.h5", "a") as file:
        del file["features"]
        file["features"] = np.ones((2, 7), dtype=np.float16)
    said = " ".join(milbench_here("data", "inspect", str(folder)).stdout.split())
    assert "slides 23, and 1 unreadable" in said
    assert "width 5 (22 slides), 7 (1 slides)" in said
    assert "unreadable: " in said
    assert "S05.a.h5 is no readable HDF5 file" in said


def test_a_folder_of_patch_coordinates_is_no_folder_of_features(tmp_path: Path, milbench_here: Milbench) -> None:
    (tmp_path / "patches").mkdir()
    with h5py.File(tmp_path / "patches" / "a.h5", "w") as file:
        file.create_dataset("coords", data=np.zeros((3, 2), np.int32)).attrs.update(
            {"patch_size": 256, "patch_level": 0}
        )
    refused = milbench_here("data", "inspect", "patches")
    assert refused.returncode == 2
    assert "patch coordinates only, not features" in refused.stderr
    assert open_features(tmp_path / "patches").layout.startswith("CLAM")


def test_a_named_label_table_is_read_or_refused_and_never_passed_over(tmp_path: Path, milbench_here: Milbench) -> None:
    folder, _ = folder_of(trident_h5, tmp_path)
    table = folder / "labels.csv"
    table.rename(tmp_path / "mine.csv")
    assert (
        "mine.csv, 24 of these slides" in milbench_here("data", "inspect", str(folder), "--labels", "mine.csv").stdout
    )
    refused = milbench_here("data", "inspect", str(folder), "--labels", "none.csv", "--out", "other.yaml")
    assert refused.returncode == 2
    assert "none.csv does not exist" in refused.stderr


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path, milbench_here: Milbench) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    assert "a.h5 is a file. Name the folder" in milbench_here("data", "inspect", "a.h5").stderr


def test_torchmil_with_its_own_labels_needs_no_table(tmp_path: Path, milbench_here: Milbench) -> None:
    from formats_for_tests import torchmil_npy

    folder, _ = torchmil_npy(
        tmp_path / "data", {f"s{i}": Slide(np.ones((3, 2), np.float32), np.zeros((3, 2), int)) for i in range(4)}
    )
    assert milbench_here("data", "inspect", str(folder)).returncode == 0
    assert yaml.safe_load((tmp_path / "cohort.yaml").read_text())["labels"].endswith("data/labels")


@pytest.mark.parametrize("inside", [False, True], ids=["the folder itself", "a cohort's folder"])
def test_a_table_of_stores_stands_in_the_draft(inside: bool, tmp_path: Path) -> None:
    stores = tmp_path / "brca" / ("features" if inside else "")
    folder, _ = wsidata(stores, {"a": Slide(np.ones((2, 3)), np.arange(4).reshape(2, 2) * 256)})
    write_table(folder / "a.zarr", "conch_tiles", "tiles", np.ones((2, 4)), np.arange(2))
    found = inspect_folder(Path(f"{tmp_path / 'brca'}#uni_tiles"), lambda slides, *_: slides)
    assert found.n_bytes == n_bytes(folder / "a.zarr/tables/uni_tiles")
    text = draft(found, None, "brca", tmp_path / "cohort.yaml")
    assert yaml.safe_load(text)["features"] == ("brca/features#uni_tiles" if inside else "brca#uni_tiles")


def test_labels_are_looked_for_in_the_folder_whose_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "labels.csv").write_text("case_id,slide_id,A\np,a,1\nq,b,0\n")
    assert find_labels(tmp_path / "stores#uni_tiles", ["a", "b"]) == (tmp_path / "stores" / "labels.csv", 2)
