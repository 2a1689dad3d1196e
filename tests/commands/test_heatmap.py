"""`milbench heatmap` as a user calls it: what it writes, what it prints, and one clear message for every mistake."""

import json
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
from weighted_runs_for_tests import N_SLIDES, PATCH, slide_name, train, write_cohort

from milbench.cohorts.cohort import folder_cohort
from milbench.commands.cli import main
from milbench.endpoints.endpoint import BINARY
from milbench.heatmap.asked import Asked
from milbench.heatmap.attention import slide_maps
from milbench.heatmap.stored import find_cohort
from milbench.store.run import open_run

Heatmap = Callable[..., tuple[int, str, str]]
SLIDE = slide_name(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heatmap")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return train(folder, write_cohort(folder / "truth"))


@pytest.fixture(scope="module")
def run_without_truth(folder: Path) -> Path:
    return train(folder, write_cohort(folder / "blind", truth=False))


def features_of(run: Path) -> Path:
    return run.parent.parent / run.name / "features"


def test_a_panel_and_a_geojson_are_written_and_the_scale_is_said(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    code, printed, errors = heatmap(run, "--slide", SLIDE, "--task", "A", "--models", "amil,m4", "--experts")
    assert (code, errors) == (0, "")
    assert "scale: share, attention over an even share (1/N of N patches)" in printed
    assert "AMIL: softmax attention" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{SLIDE}_A.{suffix}" for suffix in ("png", "svg", "geojson")}


@pytest.mark.slow
def test_the_same_command_writes_the_same_bytes(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        heatmap(run, "--slide", SLIDE, "--models", "amil")
        contents.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
    assert contents[0] == contents[1]


def test_stored_models_answer_as_they_did_when_they_were_trained(run: Path) -> None:
    cohort = find_cohort(open_run(run), "truth")
    for model in cohort.models:
        stored = cohort.load(model, "B", 1)
        table = stored.trial.predictions()
        for row in table[table["task"] == "B"].itertuples():
            answer = stored.answers(cohort.cohort.load(row.slide_id).features)[stored.row(Asked("B", BINARY))]
            assert float(answer) == pytest.approx(row.probability, abs=1e-5)


@pytest.mark.slow
def test_a_cohort_scaled_in_training_is_scaled_alike_when_it_is_looked_at(folder: Path) -> None:
    cohort_folder = write_cohort(folder / "scaled")
    (cohort_folder / "cohort.yaml").write_text(
        "name: scaled\nlabels: labels.csv\nfeatures: features\nfeature_scaling: standard\n"
    )
    cohort = find_cohort(open_run(train(folder, cohort_folder, models=("amil",))), "scaled")
    stored = cohort.load("amil", "A", 0)
    row = stored.trial.predictions().iloc[0]
    assert float(stored.answers(cohort.cohort.load(row["slide_id"]).features)[0]) == pytest.approx(
        row["probability"], abs=1e-5
    )


def test_the_geojson_has_one_polygon_a_patch_at_its_level0_pixels(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    heatmap(run, "--slide", SLIDE, "--task", "A", "--models", "amil", "m4", "--experts")
    found = json.loads((tmp_path / "out" / f"{SLIDE}_A.geojson").read_text())
    with h5py.File(features_of(run) / f"{SLIDE}.h5") as file:
        coords, truth = file["coords"][:], file["instance_labels"][:, 0]
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == len(coords)
    for feature, (x, y), evidence in zip(found["features"], coords, truth, strict=True):
        ring = feature["geometry"]["coordinates"][0]
        assert ring == [[x, y], [x + PATCH, y], [x + PATCH, y + PATCH], [x, y + PATCH], [x, y]]
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["measurements"]["A: truth"] == evidence
    names = found["features"][0]["properties"]["measurements"]
    assert {"A: AMIL attention", "A: M4 attention, rank", "M4 expert 5"} <= set(names)
    weights = [feature["properties"]["measurements"]["A: M4 attention"] for feature in found["features"]]
    assert sum(weights) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("words", "edge"), [((), PATCH), (("--patch-size", "100"), 100)])
def test_the_stated_patch_size_is_that_of_the_polygons(
    run: Path, heatmap: Heatmap, tmp_path: Path, words: tuple[str, ...], edge: int
) -> None:
    heatmap(run, "--slide", SLIDE, "--models", "amil", *words)
    found = json.loads((tmp_path / "out" / f"{SLIDE}_A.geojson").read_text())
    ring = np.array(found["features"][0]["geometry"]["coordinates"][0])
    assert np.ptp(ring, axis=0).tolist() == [edge, edge]


def test_a_patch_size_that_is_none_is_refused(run: Path, heatmap: Heatmap) -> None:
    code, _, errors = heatmap(run, "--slide", SLIDE, "--models", "amil", "--patch-size", "0")
    assert (code, "--patch-size is 0; expected the edge of a patch" in errors) == (2, True)


def test_top_slides_are_those_of_the_first_models_predictions(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    code, printed, _ = heatmap(run, "--slides", "top-tp,top-fp,top-fn", "--task", "A", "--models", "m4", "amil")
    assert code == 0
    table = find_cohort(open_run(run), "truth").trial("m4", "A", 0).predictions()
    rows = table[(table["role"] == "test") & (table["task"] == "A")].sort_values("probability")
    wanted = {
        "top-tp": rows[rows["target"] == 1]["slide_id"].iloc[-1],
        "top-fp": rows[rows["target"] == 0]["slide_id"].iloc[-1],
        "top-fn": rows[rows["target"] == 1]["slide_id"].iloc[0],
    }
    for word, slide in wanted.items():
        assert f"{slide}: {word}" in printed
    assert (tmp_path / "out" / "truth_A_slides.png").exists()


@pytest.mark.slow
def test_smoothing_and_the_softmax_scale_change_the_picture_and_not_the_geojson(
    run: Path, heatmap: Heatmap, tmp_path: Path
) -> None:
    heatmap(run, "--slide", SLIDE, "--models", "amil")
    plain = {path.suffix: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    _, printed, _ = heatmap(run, "--slide", SLIDE, "--models", "amil", "--scale", "softmax", "--smooth", 1)
    assert "scale: softmax" in printed
    other = {path.suffix: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert plain[".png"] != other[".png"]
    assert plain[".geojson"] == other[".geojson"]


@pytest.mark.slow
def test_a_run_is_found_again_from_another_folder(run: Path, heatmap: Heatmap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert heatmap(run, "--slide", SLIDE, "--models", "amil")[0] == 0


def write_tiff(path: Path, width: int, height: int) -> Path:
    tifffile.imwrite(path, np.full((height, width, 3), 200, np.uint8), tile=(256, 256), photometric="rgb")
    return path


@pytest.mark.slow
def test_the_map_is_drawn_over_the_slide(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_tiff(tmp_path / "slides" / f"{SLIDE}.tiff", 14 * PATCH, 9 * PATCH)
    heatmap(run, "--slide", SLIDE, "--models", "amil")
    alone = (tmp_path / "out" / f"{SLIDE}_A.png").read_bytes()
    assert heatmap(run, "--slide", SLIDE, "--models", "amil", "--wsi", tmp_path / "slides")[0] == 0
    assert (tmp_path / "out" / f"{SLIDE}_A.png").read_bytes() != alone


# ---- numbers -------------------------------------------------------------------------------------


def test_evaluation_compares_with_the_truth_where_it_is_known(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    code, printed, _ = heatmap(run, "--evaluate")
    assert code == 0
    assert "AUROC of attention against the truth" in printed
    assert "M4 on truth, fold 0: the experts look at" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"truth_truth.csv", "agreement_truth.csv", "gates_truth.csv", "overlap_truth.csv"} <= names
    assert {"experts_truth_m4.png", "experts_truth_m4.svg", "experts_truth.md"} <= names
    assert "curves_truth.csv" not in names
    gates = pd.read_csv(tmp_path / "out" / "gates_truth.csv")
    np.testing.assert_allclose(gates[[f"expert {e + 1}" for e in range(5)]].sum(axis=1), 1, atol=1e-4)


@pytest.mark.slow
def test_evaluation_removes_patches_where_no_truth_is_known(
    run_without_truth: Path, heatmap: Heatmap, tmp_path: Path
) -> None:
    code, printed, _ = heatmap(run_without_truth, "--evaluate", "--models", "amil", "m4")
    assert code == 0
    assert "deletion gain over random order" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"curves_blind.csv", "curve_points_blind.csv", "curves_blind.png", "agreement_blind.csv"} <= names
    assert "truth_blind.csv" not in names


def test_the_export_holds_every_slide_with_a_row_a_map(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    path = tmp_path / "attention.h5"
    code, printed, _ = heatmap(run, "--export", path, "--models", "amil", "m4")
    assert code == 0
    assert f"maps of {N_SLIDES} slides" in printed
    with h5py.File(path) as file:
        rows = json.loads(file["rows"][()])
        assert len(file["slides"]) == N_SLIDES
        assert [(row["model"], row["map"], row["task"]) for row in rows][:3] == [
            ("amil", "attention", "A"),
            ("amil", "attention", "B"),
            ("m4", "attention", "A"),
        ]
        values, role = file["slides"][SLIDE][:], file["slides"][SLIDE].attrs["role"]
    cohort = find_cohort(open_run(run), "truth")
    stored = cohort.load("m4", "A", 0)
    wanted = slide_maps(cohort, SLIDE, Asked("A", BINARY), [stored], experts=False)[0].maps[0].values
    np.testing.assert_allclose(values[2], wanted, rtol=1e-5)
    assert role in ("train", "val", "test")
    assert len(values) == len(rows)


def test_an_export_that_fails_leaves_no_file(run: Path, heatmap: Heatmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("milbench.heatmap.export._rows", lambda look: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        heatmap(run, "--export", tmp_path / "attention.h5", "--models", "amil")
    assert not list(tmp_path.glob("*attention.h5*"))


@pytest.mark.parametrize("content", [b"mine", b""])
def test_an_export_overwrites_earlier_maps_and_nothing_else(
    run: Path, heatmap: Heatmap, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "attention.h5"
    path.write_bytes(content)
    code, _, told = heatmap(run, "--export", path, "--models", "amil")
    assert code == 2
    assert f"{path} exists, and is no file of maps. It was left as it is" in told
    assert path.read_bytes() == content
    path.unlink()
    assert [heatmap(run, "--export", path, "--models", "amil")[0] for _ in range(2)] == [0, 0]


def test_an_export_to_a_full_disk_is_told(
    run: Path, heatmap: Heatmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 itself would end the process. Under the limit, Python would leave bytecode cut short for all later tests."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        code, _, told = heatmap(run, "--export", tmp_path / "attention.h5", "--models", "amil")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 2
    assert "attention.h5 cannot be written ([Errno 27] File too large)" in told
    assert not list(tmp_path.glob("*attention.h5*"))


@pytest.mark.parametrize("words", [("--smooth", "1e9"), ("--smooth", "nan"), ("--patch-size", "1e300")])
def test_a_number_that_no_picture_can_have_is_refused(run: Path, heatmap: Heatmap, words: tuple[str, str]) -> None:
    code, _, told = heatmap(run, "--slide", SLIDE, *words)
    assert code == 2
    assert f"{words[0]} is {float(words[1]):g}" in told


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--slide", "SLIDE-03X"), "has no slide 'SLIDE-03X'. Nearest of its 24: SLIDE-03.X"),
        (("--slide", SLIDE, "--task", "TP53"), "unknown task of truth 'TP53'"),
        (("--slide", SLIDE, "--models", "transmil"), "unknown model of run truth 'transmil'"),
        (("--slide", SLIDE, "--fold", "7"), "unknown fold of truth in run truth '7'"),
        (("--slide", SLIDE, "--scale", "log"), "unknown scale 'log'"),
        (("--slide", SLIDE, "--smooth", "-1"), "--smooth is -1"),
        (("--slide", SLIDE, "--models", "amil", "--experts"), "--experts: amil has no experts"),
        (("--slide", SLIDE, "--dataset", "ghost"), "unknown cohort of run truth 'ghost'"),
        (("--slides", "top-tpp"), "Did you mean 'top-tp'?"),
        (("--slide", SLIDE, "--wsi", "/nowhere"), "--wsi /nowhere does not exist"),
        ((), "give one of --slide ID"),
        (("--slide", SLIDE, "--evaluate"), "got --slide and --evaluate"),
    ],
)
def test_a_mistake_gets_one_clear_message(run: Path, heatmap: Heatmap, words: tuple[str, ...], message: str) -> None:
    code, _, errors = heatmap(run, *words)
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_a_run_without_weights_says_how_to_get_them(folder: Path, heatmap: Heatmap) -> None:
    run = train(folder, write_cohort(folder / "weightless"), "--no-weights", models=("amil",))
    code, _, errors = heatmap(run, "--slide", SLIDE)
    assert code == 2
    assert "keeps no weights" in errors
    assert "without --no-weights" in errors


def test_a_cohort_without_coordinates_says_so_and_can_still_be_evaluated(folder: Path, heatmap: Heatmap) -> None:
    run = train(folder, write_cohort(folder / "nowhere", coords=False), models=("amil",))
    code, _, errors = heatmap(run, "--slide", SLIDE)
    assert code == 2
    assert f"slide '{SLIDE}' has no coordinates" in errors
    assert heatmap(run, "--evaluate")[0] == 0


def test_a_slide_of_another_size_is_one_message(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    code, _, errors = heatmap(run, "--slide", SLIDE, "--wsi", write_tiff(tmp_path / "other.tiff", 512, 768))
    assert code == 2
    assert "other.tiff is 512 × 768 level-0 pixels, but patches begin" in errors


def test_a_cohort_that_changed_since_is_refused(folder: Path, run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    cohort = tmp_path / "moved" / "truth"
    shutil.copytree(folder / "truth", cohort)
    moved = tmp_path / "moved" / "runs" / "truth"
    shutil.copytree(run, moved)
    labels = pd.read_csv(cohort / "labels.csv")
    labels.assign(A=1 - labels["A"]).to_csv(cohort / "labels.csv", index=False)
    config = moved / "run.yaml"
    config.write_text(config.read_text().replace(str(folder / "truth"), str(cohort)))
    assert folder_cohort(cohort).name == "truth"
    code, _, errors = heatmap(moved, "--slide", SLIDE)
    assert code == 2
    assert "is not the one that" in errors


def test_a_cohort_that_is_gone_is_one_message(run: Path, heatmap: Heatmap, tmp_path: Path) -> None:
    moved = tmp_path / "runs" / "truth"
    shutil.copytree(run, moved)
    config = moved / "run.yaml"
    config.write_text(config.read_text().replace(str(run.parent.parent / "truth"), "/gone/truth"))
    code, _, errors = heatmap(moved, "--slide", SLIDE)
    assert code == 2
    assert "cohort 'truth' is no longer where run truth had it (/gone/truth)" in errors


@pytest.mark.slow
@pytest.mark.parametrize("truth", [True, False])
def test_every_reader_of_a_run_of_some_tasks_asks_for_these_alone(
    folder: Path, heatmap: Heatmap, tmp_path: Path, truth: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(folder, write_cohort(folder / f"some-{truth}", truth=truth), "--tasks", "B", models=("amil", "m4"))
    code, printed, errors = heatmap(run, "--evaluate")
    assert (code, errors) == (0, ""), errors
    assert "│ B " in printed
    assert "│ A " not in printed
    for words in (("--slide", SLIDE), ("--slides", "top-tp"), ("--export", tmp_path / "maps.h5")):
        assert heatmap(run, *words)[::2] == (0, ""), words
    code, _, errors = heatmap(run, "--slide", SLIDE, "--task", "A")
    assert code == 2
    assert "unknown task" in errors
    for command in (["status", str(run)], ["report", str(run), "--out", str(tmp_path / "report"), "--draws", "100"]):
        assert main(command) == 0, capsys.readouterr().err
