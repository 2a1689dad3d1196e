"""Residency: how large features are, and where they stay."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from milbench.cohorts.cohort import Cohort, folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.datasets import dataset
from milbench.errors import FeatureFileError
from milbench.intake.pack import pack
from milbench.serving import residency
from milbench.serving.read_ahead import MOST_AHEAD
from milbench.serving.residency import (
    PROCESS_BYTES,
    SAMPLE,
    Residency,
    choose_residency,
    feature_bytes,
    largest_bag,
    mean_patches,
)

CPU = torch.device("cpu")
GB = 1_000_000_000


def on_cpu(size: int | None, *, workers: int = 2, memory: int = 16 * GB, step: int = 0) -> Residency:
    return choose_residency(size, device=CPU, workers=workers, memory_bytes=memory, step_bytes=step)


# ---- where they stay -----------------------------------------------------------------------------


def test_a_worker_keeps_its_share_less_the_process_and_a_training_step() -> None:
    chosen = on_cpu(GB, workers=4, memory=16 * GB, step=GB)
    assert (chosen.device_bytes, chosen.host_bytes) == (0, 4 * GB - GB - PROCESS_BYTES)


def test_two_fifths_of_the_free_memory_are_used_where_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "free_memory", lambda: 40 * GB)
    chosen = choose_residency(int(3.2 * GB), device=CPU, workers=2)
    assert chosen.host_bytes == 8 * GB - PROCESS_BYTES
    assert chosen.reason == "features 3.2 GB: kept in memory (7.5 GB free for each of 2 workers)"


@pytest.mark.parametrize("step", [0, 100 * GB])
def test_a_machine_too_small_keeps_nothing(step: int) -> None:
    chosen = on_cpu(GB, memory=100_000, step=step)
    assert (chosen.device_bytes, chosen.host_bytes) == (0, 0)
    assert not chosen.whole_cohort_fits


@pytest.mark.parametrize(("size", "fits"), [(15 * GB // 2, True), (15 * GB // 2 + 1, False), (None, False)])
def test_the_whole_cohort_fits_or_not(size: int | None, fits: bool) -> None:
    assert on_cpu(size).whole_cohort_fits == fits


@pytest.mark.parametrize(
    ("size", "workers", "memory", "reason"),
    [
        (GB, 2, 16 * GB, "features 1.0 GB: kept in memory (7.5 GB for each of 2 workers under --memory 16.0 GB)"),
        (
            41 * GB,
            2,
            16 * GB,
            "features 41.0 GB: 7.5 GB kept in memory, the rest read from disk, 2 bags ahead "
            "(7.5 GB for each of 2 workers under --memory 16.0 GB)",
        ),
        (
            41 * GB,
            1,
            GB // 2,
            "features 41.0 GB: read from disk, 2 bags ahead (0 B for the one worker under --memory 500.0 MB)",
        ),
        (
            None,
            1,
            8 * GB,
            "features of unknown size: the first 7.5 GB kept, the rest read from disk, 2 bags ahead "
            "(7.5 GB for the one worker under --memory 8.0 GB)",
        ),
    ],
)
def test_the_reason_says_what_becomes_of_the_features_and_why(
    size: int | None, workers: int, memory: int, reason: str
) -> None:
    assert on_cpu(size, workers=workers, memory=memory).reason == reason


def test_the_gpu_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU has free is asked of CUDA; everything after that is arithmetic."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (50 * GB, 80 * GB))
    cuda = torch.device("cuda")

    def chosen(size: int, gpu_workers: int = 0) -> Residency:
        return choose_residency(
            size, device=cuda, workers=2, memory_bytes=16 * GB, step_bytes=5 * GB, gpu_workers=gpu_workers
        )

    assert (chosen(GB).device_bytes, chosen(GB).host_bytes) == (15 * GB, 8 * GB - PROCESS_BYTES)
    assert chosen(GB, gpu_workers=1).device_bytes == 35 * GB
    assert chosen(GB).reason == (
        "features 1.0 GB: kept on the GPU (15.0 GB on the GPU and 7.5 GB for each of 2 workers under --memory 16.0 GB)"
    )
    assert "20.0 GB: 15.0 GB kept on the GPU, the rest kept in memory (" in chosen(20 * GB).reason
    assert (
        "41.0 GB: 15.0 GB kept on the GPU, 7.5 GB kept in memory, the rest read from disk, 2 bags ahead ("
        in chosen(41 * GB).reason
    )


# ---- sizes ---------------------------------------------------------------------------------------


def pt_cohort(folder: Path, patches: list[int], dtype: torch.dtype = torch.float32) -> Cohort:
    (folder / "features").mkdir(parents=True)
    for i, n_patches in enumerate(patches):
        torch.save(torch.ones(n_patches, 16, dtype=dtype), folder / "features" / f"s{i:03d}.pt")
    rows = [(f"p{i}", f"s{i:03d}", i % 2) for i in range(len(patches))]
    pd.DataFrame(rows, columns=["case_id", "slide_id", "A"]).to_csv(folder / "labels.csv", index=False)
    return folder_cohort(folder)


def loaded(cohort: Cohort) -> tuple[int, int]:
    """Bytes of all features and patches of the largest bag, from reading everything."""
    bags = [cohort.load(slide).features for slide in cohort.slides["slide_id"]]
    return sum(features.nbytes for features in bags), max(len(features) for features in bags)


def test_a_clam_folders_size_is_that_of_its_datasets(cohort_folder: Path) -> None:
    cohort = folder_cohort(cohort_folder)
    stored = []
    for path in (cohort_folder / "features").glob("*.h5"):
        with h5py.File(path) as file:
            stored.append(file["features"].shape)
    assert feature_bytes(cohort) == sum(n * d for n, d in stored) * 4
    assert largest_bag(cohort) == max(n for n, _ in stored)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_pt_folders_size_is_that_of_its_tensors(tmp_path: Path, dtype: torch.dtype) -> None:
    cohort = pt_cohort(tmp_path, [3, 40, 7, 9], dtype)
    assert feature_bytes(cohort) == 59 * 16 * dtype.itemsize
    assert largest_bag(cohort) == 40


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_packs_size_is_that_of_its_tensors(cohort_folder: Path, tmp_path: Path, dtype: str) -> None:
    cohort = folder_cohort(pack(cohort_file(cohort_folder), tmp_path / "out", dtype, lambda slides, *_: slides).cohort)
    assert (feature_bytes(cohort), largest_bag(cohort)) == loaded(cohort)
    assert feature_bytes(cohort) == feature_bytes(folder_cohort(cohort_folder)) * (0.5 if dtype == "float16" else 1)


def test_an_embedded_cohorts_size_follows_from_one_bag() -> None:
    cohort = dataset("digits").load(None)
    assert (feature_bytes(cohort), largest_bag(cohort)) == loaded(cohort) == (740 * 36 * 64 * 4, 36)


def test_a_large_cohorts_size_is_told_from_a_sample_and_its_largest_bag_from_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = np.random.default_rng(0).integers(20, 60, size=3 * SAMPLE + 7).tolist()
    patches[SAMPLE + 1] = 90
    cohort = pt_cohort(tmp_path, patches)
    asked: list[str] = []
    head = cohort.header
    object.__setattr__(cohort, "header", lambda slide: (asked.append(slide), head(slide))[1])
    assert feature_bytes(cohort) == pytest.approx(sum(patches) * 16 * 4, rel=0.1)
    assert len(set(asked)) == SAMPLE
    assert asked[0] == "s000"
    assert asked[-1] > f"s{len(patches) - 5:03d}"
    assert largest_bag(cohort) == 90


def test_a_bag_of_many_patches_counts_with_those_that_a_step_sees(tmp_path: Path) -> None:
    cohort = pt_cohort(tmp_path, [3, 40, 7, 10])
    assert (mean_patches(cohort), mean_patches(cohort, None), mean_patches(cohort, 10)) == (15, 15, 7.5)
    assert mean_patches(replace(cohort, header=None), 2) == 2


def test_a_header_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    cohort = pt_cohort(tmp_path, [3, 4])
    (tmp_path / "features" / "s001.pt").write_bytes(b"damaged")
    for measure in (feature_bytes, largest_bag):
        with pytest.raises(FeatureFileError, match=r"s001\.pt"):
            measure(cohort)


# ---- bags ahead ----------------------------------------------------------------------------------


def test_bags_ahead_have_room_of_their_own_beside_those_that_stay() -> None:
    chosen = choose_residency(41 * GB, device=CPU, workers=2, memory_bytes=16 * GB, bag_bytes=20_000_000)
    assert (chosen.most_ahead, chosen.ahead_bytes) == (MOST_AHEAD, 14 * 20_000_000)
    assert chosen.host_bytes + chosen.ahead_bytes == 8 * GB - PROCESS_BYTES
    assert "7.2 GB kept in memory, the rest read from disk, 2 to 16 bags ahead (7.5 GB for each of 2" in chosen.reason


def test_bags_ahead_take_an_eighth_of_the_room_at_most() -> None:
    chosen = choose_residency(41 * GB, device=CPU, workers=1, memory_bytes=GB, bag_bytes=20_000_000)
    assert (chosen.most_ahead, chosen.ahead_bytes) == (2 + 3, 62_500_000)
    assert "437.5 MB kept in memory, the rest read from disk, 2 to 5 bags ahead (500.0 MB for" in chosen.reason


def test_large_bags_are_read_two_ahead_and_take_no_room_from_others() -> None:
    chosen = choose_residency(41 * GB, device=CPU, workers=1, memory_bytes=GB, bag_bytes=100_000_000)
    assert (chosen.most_ahead, chosen.ahead_bytes, chosen.host_bytes) == (2, 0, 500_000_000)
    assert "500.0 MB kept in memory, the rest read from disk, 2 bags ahead (500.0 MB for" in chosen.reason


def test_if_all_bags_stay_those_ahead_take_nothing_from_them() -> None:
    chosen = choose_residency(GB, device=CPU, workers=1, memory_bytes=8 * GB, bag_bytes=20_000_000)
    assert chosen.whole_cohort_fits
    assert (chosen.most_ahead, chosen.host_bytes) == (MOST_AHEAD, 8 * GB - PROCESS_BYTES)
