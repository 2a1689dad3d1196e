"""`milbench data pack`: the same values, contiguous; nothing overwritten, nothing done twice."""

import hashlib
import json
import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from commands_for_tests import FAST, Milbench
from folders_for_tests import make_folder_cohort, write_h5
from formats_for_tests import Slide, eva
from safetensors.torch import save_file
from zarr_stores import write_table, write_wsidata

from milbench.cohorts import content
from milbench.cohorts.cohort import folder_cohort
from milbench.cohorts.cohort_file import cohort_file
from milbench.cohorts.fingerprint import file_ends
from milbench.errors import FeatureFileError, MilbenchError, UsageError
from milbench.formats import FeatureFolder, SlideFeatures, open_features
from milbench.formats.linked import n_bytes
from milbench.intake import pack as pack_module
from milbench.intake.check import check_cohort
from milbench.intake.pack import Packed, _rounding, _side_by_side, _threads, pack
from milbench.store.claims import claimed


def packed(folder: Path, out: Path, dtype: str = "float16") -> Packed:
    return pack(cohort_file(folder), out, dtype, lambda slides, *_: slides)


def sums(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_pack_holds_the_same_slides(cohort_folder: Path, tmp_path: Path, dtype: str) -> None:
    before = sums(cohort_folder)
    done = packed(cohort_folder, tmp_path / "out", dtype)
    source, copy = folder_cohort(cohort_folder), folder_cohort(done.cohort)
    assert (done.written, done.kept) == (48, 0)
    assert sums(cohort_folder) == before
    for slide in source.slides["slide_id"]:
        a, b = source.load(slide), copy.load(slide)
        assert torch.equal(a.features.to(getattr(torch, dtype)), b.features)
        assert torch.equal(a.coords, b.coords)
        assert b.features.is_contiguous()
    assert (done.largest_rounding > 0) == (dtype == "float16")
    assert done.largest_rounding < 2**-11
    assert copy.fingerprint != source.fingerprint
    assert copy.slides.equals(source.slides)


def test_a_pack_goes_on_where_it_was_stopped_and_comes_out_the_same(cohort_folder: Path, tmp_path: Path) -> None:
    done = packed(cohort_folder, tmp_path / "whole")
    packed(cohort_folder, tmp_path / "stopped")
    files = sorted((tmp_path / "stopped" / "features").iterdir())
    for path in files[::3]:
        path.unlink()
    kept = files[1].stat().st_mtime_ns
    again = packed(cohort_folder, tmp_path / "stopped")
    assert (again.written, again.kept) == (len(files[::3]), 48 - len(files[::3]))
    assert files[1].stat().st_mtime_ns == kept
    assert again.largest_rounding == done.largest_rounding
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        (folder / "sources.json").unlink()  # tells of sources younger than two seconds that they may still change
    assert [*sums(tmp_path / "whole").values()] == [*sums(tmp_path / "stopped").values()]


def test_two_packs_into_one_folder_at_once_are_refused_and_a_dead_one_holds_nobody_up(
    cohort_folder: Path, tmp_path: Path, milbench_here: Milbench
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with claimed(out / "claims", "data-pack"):
        alive = json.loads((out / "claims" / "data-pack.json").read_text())
        done = milbench_here("data", "pack", str(cohort_folder), "--out", str(out), "--dtype", "float16")
    assert done.returncode == 2
    assert f"another `milbench data pack` is writing {out} (process {os.getpid()} on" in done.stderr
    assert not (out / "labels.csv").exists()
    (out / "claims" / "data-pack.json").write_text(json.dumps({**alive, "born": 1.0}))
    assert packed(cohort_folder, out).written == 48
    assert not (out / "claims").exists()


def test_nothing_is_overwritten(cohort_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds the source itself"):
        packed(cohort_folder, cohort_folder)
    for path in (cohort_folder / "features").iterdir():
        os.utime(path, (1e9, 1e9))  # a file of the last two seconds is not remembered, and a slow machine takes longer
    packed(cohort_folder, tmp_path / "out")
    before = sums(tmp_path / "out")
    with pytest.raises(UsageError, match="was made from another file or as float16"):
        packed(cohort_folder, tmp_path / "out", "float32")
    first = sorted((cohort_folder / "features").iterdir())[0]
    write_h5(first, np.ones((3, 6), dtype=np.float32))
    with pytest.raises(UsageError, match="was made from another file"):
        packed(cohort_folder, tmp_path / "out")
    assert sums(tmp_path / "out") == before


def edit_in_the_middle(path: Path) -> None:
    """Change one value and neither the size nor the ends of a file."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 4] = np.float32(7).tobytes()
    path.write_bytes(whole)


@pytest.fixture
def long_slide(tmp_path: Path) -> Path:
    """Feature file of a cohort whose middle is in neither end."""
    folder = make_folder_cohort(tmp_path / "toy", n_patients=3)
    path = sorted((folder / "features").iterdir())[0]
    write_h5(path, np.zeros((20_000, 6), dtype=np.float32))
    return path


@pytest.mark.parametrize("is_remembered", [True, False])
def test_an_edit_in_the_middle_of_a_source_is_seen(long_slide: Path, tmp_path: Path, is_remembered: bool) -> None:
    packed(long_slide.parent.parent, tmp_path / "out")
    if not is_remembered:
        (tmp_path / "out" / "sources.json").unlink()
    before, ends = sums(tmp_path / "out" / "features"), file_ends(long_slide)
    edit_in_the_middle(long_slide)
    assert file_ends(long_slide) == ends
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"{long_slide.stem}.* was made from another file"):
            packed(long_slide.parent.parent, tmp_path / "out")
    assert sums(tmp_path / "out" / "features") == before


@pytest.mark.parametrize("remembered", ["", "{", '{"first": {}, "slides": {}}', None])
def test_packs_whose_sources_nobody_remembers_are_compared_by_value_and_kept(
    cohort_folder: Path, tmp_path: Path, remembered: str | None
) -> None:
    packed(cohort_folder, tmp_path / "out")
    before = sums(tmp_path / "out" / "features")
    (tmp_path / "out" / "sources.json").unlink()
    if remembered is not None:
        (tmp_path / "out" / "sources.json").write_text(remembered)
    again = packed(cohort_folder, tmp_path / "out")
    assert (again.written, again.kept) == (0, 48)
    assert sums(tmp_path / "out" / "features") == before


def test_a_source_that_is_as_it_was_is_read_once(
    cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (cohort_folder / "features").iterdir():
        os.utime(path, (1e9, 1e9))
    packed(cohort_folder, tmp_path / "out")
    monkeypatch.setattr(content, "file_sha256", lambda path: pytest.fail(f"{path} is read again"))
    assert packed(cohort_folder, tmp_path / "out").kept == 48


def test_a_source_that_changes_while_it_is_packed_leaves_no_pack(
    long_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = FeatureFolder.load

    def load_and_edit(folder: FeatureFolder, slide: str) -> SlideFeatures:
        loaded = load(folder, slide)
        edit_in_the_middle(folder.paths[slide])
        return loaded

    monkeypatch.setattr(FeatureFolder, "load", load_and_edit)
    with pytest.raises(FeatureFileError, match="changes while it is read"):
        packed(long_slide.parent.parent, tmp_path / "out")
    assert not list((tmp_path / "out" / "features").iterdir())


def test_values_beyond_float16_are_refused_by_name(cohort_folder: Path, tmp_path: Path) -> None:
    first = sorted((cohort_folder / "features").iterdir())[0]
    write_h5(first, np.full((3, 6), 1e5, dtype=np.float32))
    with pytest.raises(
        FeatureFileError, match=rf"{first.name}: values up to 1e\+05 do not fit float16.*--dtype float32"
    ):
        packed(cohort_folder, tmp_path / "out")
    assert packed(cohort_folder, tmp_path / "wide", "float32").written == 48


def test_damage_is_found_by_the_checksum(cohort_folder: Path, tmp_path: Path) -> None:
    done = packed(cohort_folder, tmp_path / "out", "float32")
    path = sorted((tmp_path / "out" / "features").iterdir())[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = check_cohort(cohort_file(done.cohort), lambda slides, *_: slides, deep=True)
    assert any("checksum is wrong" in problem.what and path.name in problem.what for problem in result.problems)


def test_what_the_source_knew_is_kept(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=3)
    for path in (folder / "features").iterdir():
        with h5py.File(path, "a") as file:
            file["features"].attrs["encoder"] = "uni_v1"
            file["coords"].attrs.update({"patch_size_level0": 512, "target_magnification": 20})
            file["instance_labels"] = np.ones((len(file["features"]), 2), np.uint8)
    packed(folder, tmp_path / "out")
    reader, source = open_features(tmp_path / "out" / "features"), open_features(folder / "features")
    assert reader.layout.startswith("milbench pack")
    for slide in source.paths:
        assert reader.header(slide) == source.header(slide)._replace(dtype="float16")
        assert torch.equal(reader.load(slide).instance_labels, source.load(slide).instance_labels)


def test_a_pack_keeps_what_is_told_and_declared_of_the_extraction(tmp_path: Path) -> None:
    folder = make_folder_cohort(tmp_path / "toy", n_patients=2)
    told = {"encoder": "uni", "mpp": 0.5, "weights_sha256": "ab", "transform": {"mean": [0.5], "std": [0.5]}}
    (folder / "features" / "features.json").write_text(json.dumps(told))
    packed(folder, tmp_path / "out")
    reader, source = open_features(tmp_path / "out" / "features"), open_features(folder / "features")
    for slide in source.paths:
        assert reader.header(slide) == source.header(slide)._replace(dtype="float16")
        assert reader.header(slide)[-5:-1] == (0.5, "ab", '{"mean": [0.5], "std": [0.5]}', "")


def test_a_pack_keeps_the_labels_of_every_kind(cohort_folder: Path, tmp_path: Path) -> None:
    table, rng = pd.read_csv(cohort_folder / "labels.csv", dtype=str), np.random.default_rng(0)
    table["grade"] = rng.choice(["G1", "NA", "G3", ""], len(table))
    table["hrd"] = rng.normal(size=len(table))
    table["months"], table["dead"] = rng.exponential(30, len(table)), rng.choice(["alive", "dead", ""], len(table))
    table.to_csv(cohort_folder / "labels.csv", index=False)
    (cohort_folder / "cohort.yaml").write_text(
        "name: toy\nlabels: labels.csv\nfeatures: features\ntasks:\n  A: binary\n"
        "  grade: {kind: ordinal, classes: [G1, NA, G3]}\n  hrd: regression\n"
        "  os: {kind: survival, time: months, event: dead}\n"
    )
    source = folder_cohort(cohort_folder)
    copy = folder_cohort(packed(cohort_folder, tmp_path / "out").cohort)
    assert copy.slides.equals(source.slides)
    assert copy.endpoints == source.endpoints


@pytest.mark.parametrize("dtype", ["int8", "float64"])
def test_an_unknown_dtype_is_refused(cohort_folder: Path, tmp_path: Path, dtype: str) -> None:
    with pytest.raises(MilbenchError, match="unknown dtype"):
        packed(cohort_folder, tmp_path / "out", dtype)


def test_a_packed_cohort_runs(cohort_folder: Path, milbench_here: Milbench) -> None:
    said = milbench_here("data", "pack", "toy", "--out", "out", "--dtype", "float16")
    assert said.returncode == 0, said.stderr
    assert "packed 48 slides (0 were there already)" in said.stdout
    flags = ("--models", "mean_pooling", "--folds", "0", "--workers", "1", *FAST)
    assert milbench_here("run", "--cohort", "out/cohort.yaml", *flags).returncode == 0


@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.99])
def test_a_pack_that_was_cut_is_refused_by_name(cohort_folder: Path, tmp_path: Path, share: float) -> None:
    done = packed(cohort_folder, tmp_path / "out")
    path = sorted((tmp_path / "out" / "features").iterdir())[1]
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    reader = open_features(done.cohort.parent / "features")
    for use in (reader.load, reader.header):
        with pytest.raises(FeatureFileError, match=rf"{path.name} is no readable safetensors file"):
            use(path.name.removesuffix(".safetensors"))


def test_other_safetensors_files_are_read_too(tmp_path: Path) -> None:
    save_file({"features": torch.ones(3, 4)}, tmp_path / "a.safetensors")
    save_file({"x": torch.ones(3, 4)}, tmp_path / "b.safetensors")
    save_file({"features": torch.ones(3, 4, dtype=torch.int32)}, tmp_path / "c.safetensors")
    reader = open_features(tmp_path)
    assert reader.layout.startswith("safetensors: 3 ")
    assert torch.equal(reader.load("a").features, torch.ones(3, 4))
    with pytest.raises(FeatureFileError, match=r"b\.safetensors has no tensor 'features'"):
        reader.header("b")
    with pytest.raises(FeatureFileError, match=r"c\.safetensors: 'features' is torch\.int32"):
        reader.load("c")


@pytest.mark.parametrize("name", ["labels.csv", "cohort.yaml"])
def test_tables_of_others_are_not_overwritten(cohort_folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} was not made by `data pack`\. Name another folder"):
        packed(cohort_folder, tmp_path / "out")
    assert sums(tmp_path / "out").keys() == {str(tmp_path / "out" / name)}
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_values_too_small_for_float16_are_refused_and_fit_float32(cohort_folder: Path, tmp_path: Path) -> None:
    path = min((cohort_folder / "features").iterdir())
    with h5py.File(path, "a") as file:
        file["features"][:] *= 1e-8
    with pytest.raises(FeatureFileError, match=r"too small for float16, which would change them by .* --dtype float32"):
        packed(cohort_folder, tmp_path / "out")
    assert packed(cohort_folder, tmp_path / "single", "float32").largest_rounding == 0


# ---- side by side --------------------------------------------------------------------------------


def test_slides_are_packed_side_by_side_and_come_in_order() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(slide: str) -> float:
        both.wait()  # neither ends before the other has begun
        return float(slide)

    assert list(_side_by_side(work, ["0", "1", "2", "3"], 2)) == [0, 1, 2, 3]


def test_what_one_slide_raises_ends_the_others_and_no_later_one_begins() -> None:
    begun = []

    def work(slide: str) -> float:
        begun.append(slide)
        if slide == "1":
            raise FeatureFileError("slide 1 is damaged")
        return 0.0

    with pytest.raises(FeatureFileError, match="slide 1 is damaged"):
        list(_side_by_side(work, [str(number) for number in range(50)], 2))
    assert len(begun) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("milbench-pack")]


def test_large_slides_are_packed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_module, "usable_cores", lambda: 32)
    monkeypatch.setattr(pack_module, "free_memory", lambda: 10**9)
    assert [_threads(size) for size in (0, 10**6, 4 * 10**7, 10**9)] == [4, 4, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_rounding_is_that_of_exact_differences(dtype: torch.dtype) -> None:
    exponents = torch.randint(-30, 14, (1000, 7), generator=torch.Generator().manual_seed(0))
    features = (torch.randn(1000, 7, generator=torch.Generator().manual_seed(1)) * 2.0**exponents).to(dtype)
    largest = float(features.abs().max().double())
    for stored in (features.half(), features.float()):
        exact = float((features.double() - stored.double()).abs().max() / largest)
        assert _rounding(features, stored, largest) == exact


@pytest.fixture
def cohort_of_stores(tmp_path: Path) -> Path:
    """A cohort.yaml that names a table of four stores."""
    for number in range(4):
        features = np.random.default_rng(number).standard_normal((5, 3)).astype(np.float32)
        write_wsidata(tmp_path / "stores" / f"s{number}.zarr", features, np.arange(10).reshape(5, 2) * 256)
        write_table(tmp_path / "stores" / f"s{number}.zarr", "conch_tiles", "tiles", features[:, :2], np.arange(5))
    lines = [f"p{number},s{number},{number % 2}" for number in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["case_id,slide_id,A", *lines]))
    path = tmp_path / "cohort.yaml"
    path.write_text("name: toy\nlabels: labels.csv\nfeatures: stores#uni_tiles\n")
    return path


def test_a_table_of_stores_is_packed_and_packed_again_only_if_it_is_the_same(
    cohort_of_stores: Path, tmp_path: Path
) -> None:
    done = packed(cohort_of_stores, tmp_path / "out", "float32")
    assert (done.written, done.bytes_before) == (
        4,
        sum(map(n_bytes, open_features(tmp_path / "stores#uni_tiles").paths.values())),
    )
    source, copy = folder_cohort(cohort_of_stores), folder_cohort(done.cohort)
    for slide in ("s0", "s1", "s2", "s3"):
        assert torch.equal(source.load(slide).features, copy.load(slide).features)
        assert torch.equal(source.load(slide).coords, copy.load(slide).coords)
    assert packed(cohort_of_stores, tmp_path / "out", "float32").kept == 4
    chunk = tmp_path / "stores/s1.zarr/tables/uni_tiles/X/c/0/0"
    chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    with pytest.raises(UsageError, match=r"s1\.safetensors was made from another file"):
        packed(cohort_of_stores, tmp_path / "out", "float32")


def test_the_folder_of_stores_is_not_packed_into(cohort_of_stores: Path, tmp_path: Path) -> None:
    (tmp_path / "stores").rename(tmp_path / "features")
    cohort_of_stores.write_text(cohort_of_stores.read_text().replace("stores", "features"))
    with pytest.raises(UsageError, match="holds the source itself"):
        packed(cohort_of_stores, tmp_path, "float32")


def test_a_pack_tells_that_the_order_of_patches_is_unknown(tmp_path: Path) -> None:
    folder, _ = eva(tmp_path / "features", {f"s{n}": Slide(np.random.default_rng(n).standard_normal((3, 2)), np.zeros((3, 2))) for n in range(2)})  # fmt: skip
    (tmp_path / "labels.csv").write_text("case_id,slide_id,A\np0,s0,0\np1,s1,1\n")
    done = packed(tmp_path, tmp_path / "out", "float32")
    told = open_features(folder).header("s0").order_problem
    assert told
    assert open_features(done.cohort.parent / "features").header("s0").order_problem == told
