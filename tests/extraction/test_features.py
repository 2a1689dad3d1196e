"""Features: whole extractions of small slides, read in this process, against the pixels that the slides were made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from extraction_for_tests import SETTINGS, Colours, Notes, colours_of, files_of, hashes, make_slides, run, stored
from made_slides import tiff_slide

from milbench.errors import MilbenchError, StoreError, UsageError
from milbench.extraction.features import Outcome, extract
from milbench.extraction.settings import TissueSettings
from milbench.formats.detect import recognise
from milbench.store.claims import claimed
from milbench.store.disk import Disk
from milbench.store.files import temporary_name

pytestmark = pytest.mark.usefixtures("small_sheets")


def test_each_row_is_the_feature_of_the_pixels_at_its_coordinates(
    extracted: tuple[Path, Outcome], pixels: tuple[Path, dict[str, np.ndarray]]
) -> None:
    out, outcome = extracted
    assert (set(outcome.done), outcome.skipped, outcome.failed) == ({"a", "b"}, (), {})
    for slide_id, whole in pixels[1].items():
        features, coords, _, _ = stored(out, slide_id)
        tiles = np.stack([whole[y : y + 64, x : x + 64] for x, y in coords.tolist()])
        assert outcome.done[slide_id] == len(coords) > 16, "more than two batches"
        assert np.array_equal(features, colours_of(tiles).astype(np.float16))


def test_coordinates_go_row_by_row_on_one_grid_from_the_corner_of_the_slide(extracted: tuple[Path, Outcome]) -> None:
    coords = stored(extracted[0], "a")[1]
    assert coords.dtype == np.int64
    assert not (coords % 64).any()
    assert coords.tolist() == sorted(coords.tolist(), key=lambda corner: corner[::-1])


def test_patches_cover_the_tissue_and_leave_glass_out(
    extracted: tuple[Path, Outcome], pixels: tuple[Path, dict[str, np.ndarray]]
) -> None:
    whole = pixels[1]["a"]
    tissue = np.ptp(whole.astype(int), axis=2) > 20
    covered = np.zeros_like(tissue)
    for x, y in stored(extracted[0], "a")[1]:
        covered[y : y + 64, x : x + 64] = True
        assert tissue[y : y + 64, x : x + 64].any()
    assert tissue[covered].sum() > 0.95 * tissue.sum()


def test_files_tell_what_was_done(extracted: tuple[Path, Outcome], pixels: tuple[Path, Any]) -> None:
    out, _ = extracted
    features, _, of_data, of_file = stored(out, "a")
    assert features.dtype == np.float16
    assert {name: of_data[name] for name in ("encoder", "pooling", "patch_size", "patch_size_level0", "mpp")} == {
        "encoder": "colours", "pooling": "mean and deviation", "patch_size": 64, "patch_size_level0": 64, "mpp": 0.5,
    }  # fmt: skip
    assert [of_data[f"level0_{name}"] for name in ("mpp_x", "mpp_y", "width", "height")] == [0.5, 0.5, 768, 512]
    assert json.loads(of_data["transform"])["size"] is None
    assert (of_file["milbench_features"], of_file["slide_id"], of_file["slide_file"]) == (1, "a", "a.tiff")
    assert of_file["slide_bytes"] == (pixels[0] / "a.tiff").stat().st_size
    settings = json.loads((out / "features.json").read_text())
    assert (settings["mpp"], settings["tissue"]["saturation"], settings["grid"]) == (0.5, 8, "slide")


def test_the_folder_is_read_as_features(extracted: tuple[Path, Outcome]) -> None:
    out, _ = extracted
    folder = recognise(out)
    assert sorted(folder.paths) == ["a", "b"]
    assert {path.name for path in out.iterdir()} == {"a.h5", "b.h5", "features.json", "sheets"}
    assert {path.name for path in (out / "sheets").iterdir()} == {"a.png", "b.png"}


def test_a_folder_in_which_a_command_works_is_read_as_features(again: tuple[Path, Path]) -> None:
    with claimed(again[1] / "claims", "c"):
        assert sorted(recognise(again[1]).paths) == ["a", "b"]


def test_the_same_command_again_reads_no_slide_and_changes_no_byte(again: tuple[Path, Path]) -> None:
    slides, out = again
    before = hashes(out)
    assert run(slides, out) == Outcome({}, ("a", "b"), {})
    assert hashes(out) == before


def test_a_missing_slide_comes_back_with_the_same_bytes_and_half_written_ones_go(again: tuple[Path, Path]) -> None:
    slides, out = again
    before = hashes(out)
    (out / "b.h5").unlink()
    dead = temporary_name(".b.h5").split("-")
    (out / "-".join([*dead[:2], "999999999", dead[3]])).write_bytes(b"half")
    assert set(run(slides, out).done) == {"b"}
    assert hashes(out) == before


def test_a_slide_that_changed_is_made_again_and_this_is_said(again: tuple[Path, Path]) -> None:
    slides, out = again
    make_slides(slides, "xyzb", width=640)
    for name in "xyz":
        (slides / f"{name}.tiff").unlink()
    notes = Notes()
    assert set(run(slides, out, watch=notes).done) == {"b"}
    assert "b: the slide has changed since" in notes.texts[0]


def test_a_slide_that_changed_to_as_many_bytes_is_made_again(again: tuple[Path, Path]) -> None:
    slides, out = again
    content = (slides / "b.tiff").read_bytes()
    assert content.count(b"tifffile.py"), "what names the program that wrote the slide"
    (slides / "b.tiff").write_bytes(content.replace(b"tifffile.py", b"another.one"))
    notes = Notes()
    assert set(run(slides, out, watch=notes).done) == {"b"}
    assert "as many bytes, other ones" in notes.texts[0]


def test_a_slide_that_is_gone_fails_and_its_features_stay(again: tuple[Path, Path]) -> None:
    slides, out = again
    before, asked, notes = hashes(out), files_of(slides), Notes()
    (slides / "b.tiff").unlink()
    outcome = extract(asked, Colours(), SETTINGS, out, workers=0, watch=notes)
    assert "No such file" in outcome.failed["b"]
    assert (hashes(out), notes.texts) == (before, [])


@pytest.mark.parametrize("text", ['"milbench_features"', '["milbench_features"]', "[" * 100_000, "3", "\udcff"])
def test_settings_that_are_no_settings_are_refused(again: tuple[Path, Path], text: str) -> None:
    slides, out = again
    (out / "features.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError, match="was not written by milbench features, or cannot be read"):
        run(slides, out)


def test_values_that_a_dtype_would_round_to_zero_are_refused(pixels: tuple[Path, Any], tmp_path: Path) -> None:
    class Faint(Colours):
        def encode(self, tiles: Any) -> Any:
            return super().encode(tiles) * 1e-9

    assert "below 6.1e-05, which float16 rounds away" in run(pixels[0], tmp_path / "16", encoder=Faint()).failed["a"]
    assert not run(pixels[0], tmp_path / "32", replace(SETTINGS, dtype="float32"), Faint()).failed


def test_what_is_no_feature_file_is_never_replaced(again: tuple[Path, Path]) -> None:
    slides, out = again
    (out / "a.h5").write_text("notes of mine")
    with pytest.raises(StoreError, match=r"a\.h5 is no feature file, and would be replaced"):
        run(slides, out)
    assert (out / "a.h5").read_text() == "notes of mine"
    (out / "a.h5").write_text("")
    assert set(run(slides, out).done) == {"a"}, "as a crash of the system leaves it"


def test_a_damaged_feature_file_is_made_again(again: tuple[Path, Path]) -> None:
    slides, out = again
    before = hashes(out)
    (out / "a.h5").write_bytes((out / "a.h5").read_bytes()[:700])
    assert set(run(slides, out).done) == {"a"}
    assert hashes(out) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dtype": "float32"}, "dtype 'float16', and the command asks for 'float32'"),
        ({"mpp": 1.0}, "mpp 0.5, and the command asks for 1.0"),
        ({"mpp": None, "magnification": 20.0}, "mpp 0.5, and the command asks for none"),
        ({"tissue": replace(SETTINGS.tissue, median=5)}, "tissue.median 7, and the command asks for 5"),
    ],
)
def test_other_settings_are_refused_and_the_field_is_named(
    extracted: tuple[Path, Outcome], pixels: tuple[Path, Any], change: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as caught:
        run(pixels[0], extracted[0], replace(SETTINGS, **change))
    assert named in str(caught.value) or "magnification none, and the command asks for 20.0" in str(caught.value)


def test_settings_of_a_folder_without_features_give_way_unless_a_command_works_there(
    pixels: tuple[Path, Any], tmp_path: Path
) -> None:
    nothing = replace(SETTINGS, tissue=replace(SETTINGS.tissue, smallest_piece=1e5))
    assert set(run(pixels[0], tmp_path, nothing).failed) == {"a", "b"}
    with claimed(tmp_path / "claims", "a"), pytest.raises(UsageError, match="smallest_piece"):
        run(pixels[0], tmp_path)
    assert set(run(pixels[0], tmp_path).done) == {"a", "b"}
    assert json.loads((tmp_path / "features.json").read_text())["tissue"]["smallest_piece"] == 0.5
    with pytest.raises(UsageError, match="smallest_piece"):
        run(pixels[0], tmp_path, nothing)


def test_a_file_in_the_place_of_the_folder_is_no_full_disk(pixels: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StoreError, match=r"cannot write to .*out: .*\. Something of another kind stands in its place"):
        run(pixels[0], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_features_of_another_tool_are_never_replaced(again: tuple[Path, Path]) -> None:
    slides, out = again
    (out / "features.json").write_text('{"model": "uni"}')
    with pytest.raises(UsageError, match="not written by milbench features"):
        run(slides, out)
    (out / "features.json").unlink()
    with pytest.raises(StoreError, match=r"a\.h5 was not written with the settings"):
        run(slides, out, replace(SETTINGS, grid="per-tissue"))


def test_slides_that_fail_are_listed_with_what_to_do_and_the_others_are_done(
    again: tuple[Path, Path], tmp_path: Path
) -> None:
    slides, _ = again
    blank = np.full((512, 512, 3), 245, np.uint8)
    tiff_slide(slides / "grey.tiff", blank, 0.5, levels=1)
    blank[:32, :32, 0] = 255
    tiff_slide(slides / "blank.tiff", blank, 0.5, levels=1)
    pale = np.full((512, 512, 3), (245, 245, 240), np.uint8)
    tiff_slide(slides / "pale.tiff", pale, 0.5, levels=1)
    tiff_slide(slides / "untold.tiff", blank, None, levels=1)
    tiff_slide(slides / "oblong.tiff", blank, (0.5, 0.25), levels=1)
    tiff_slide(slides / "coarse.tiff", blank, 2.0, levels=1)
    (slides / "text.tiff").write_text("no slide")
    outcome = run(slides, tmp_path / "new")
    assert set(outcome.done) == {"a", "b"}
    for slide_id, reason in {
        "grey": "its picture has no colour (sheets/grey.png)",
        "blank": "the largest piece has less than 0.001 mm² (0.0039 patches of 128 x 128 µm), and pieces up to 0.0082 mm² (0.5 "
        "patches of 128 x 128 µm) are left out. Look at sheets/blank.png. If there is tissue, give --tissue smallest_piece=0.003, "
        "with another --out",
        "pale": "tissue has a saturation above 8 (of 255), and the strongest here has 5. Look at sheets/pale.png. If there is "
        "tissue, give a lower --tissue saturation, with another --out",
        "untold": "--mpp-of untold=0.25",
        "oblong": "--mpp-of oblong=0.25",
        "coarse": "coarser than --mpp 0.5",
        "text": "text.tiff",
    }.items():
        assert reason in outcome.failed.pop(slide_id)
    assert outcome.failed == {}
    assert {path.name for path in (tmp_path / "new").glob("*.h5")} == {"a.h5", "b.h5"}


def test_what_the_message_of_too_little_tissue_names_finds_it(tmp_path: Path) -> None:
    pixels = np.full((1024, 1024, 3), 245, np.uint8)
    pixels[256:768, 256:768] = (
        220,
        120,
        180,
    )  # 256 µm at 0.5: 0.066 mm², less the corners that the median filter rounds off
    (tmp_path / "slides").mkdir()
    tiff_slide(tmp_path / "slides" / "small.tiff", pixels, 0.5, levels=1)
    clams = replace(SETTINGS, tissue=TissueSettings())
    reason = run(tmp_path / "slides", tmp_path / "none", clams).failed["small"]
    found = "no tissue was found: the largest piece has 0.064 mm² (3.9 patches of 128 x 128 µm), "
    assert reason.startswith(f"{found}and pieces up to 0.26 mm² (16 patches of 128 x 128 µm) are left out.")
    named = float(reason.split("smallest_piece=")[1].split(",")[0])
    lower = replace(SETTINGS, tissue=replace(SETTINGS.tissue, smallest_piece=named))
    assert set(run(tmp_path / "slides", tmp_path / "some", lower).done) == {"small"}
    coarse = replace(lower, patch_size=4096, step=4096)
    reason = run(tmp_path / "slides", tmp_path / "large", coarse).failed["small"]
    assert reason.startswith(f"{found}but no patch lies in it by the rule four-points.")


def test_microns_that_the_user_tells_win_over_the_file(again: tuple[Path, Path], tmp_path: Path) -> None:
    slides, _ = again
    out = tmp_path / "new"
    settings = replace(SETTINGS, tissue=replace(SETTINGS.tissue, smallest_piece=0.1))
    run(slides, out, settings, microns={"a": 0.25})
    sizes = {slide_id: stored(out, slide_id)[2]["patch_size_level0"] for slide_id in "ab"}
    assert sizes == {"a": 128, "b": 64}
    notes = Notes()
    assert set(run(slides, out, settings, microns={"a": 0.5}, watch=notes).done) == {"a"}
    assert "made with 0.25 microns per pixel, and --mpp-of says 0.5" in notes.texts[0]
    assert set(run(slides, out, settings, watch=notes).done) == {"a"}
    assert "made with --mpp-of a=0.5, which is not given now" in notes.texts[-1]
    assert run(slides, out, settings).skipped == ("a", "b")


def test_a_slide_for_which_the_encoder_gives_nan_is_refused_and_leaves_nothing(
    pixels: tuple[Path, Any], tmp_path: Path
) -> None:
    outcome = run(pixels[0], tmp_path, encoder=Colours(broken=400))
    assert "NaN or infinite" in outcome.failed["a"]
    assert {path.name for path in tmp_path.iterdir()} == {"features.json", "sheets"}


def test_values_beyond_float16_are_refused_with_the_dtype_that_holds_them(
    pixels: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Colours, "encode", lambda _, tiles: __import__("torch").full((len(tiles), 6), 1e5))
    assert "--dtype float32" in run(pixels[0], tmp_path).failed["a"]


class FullDisk(Disk):
    """A disk that takes no byte."""

    def write(self, data: Any) -> int:
        self.error = OSError(28, "No space left on device")
        return len(data)


def test_a_full_disk_ends_everything_with_one_message_and_leaves_nothing_half_written(
    pixels: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.extraction.feature_file.Disk", FullDisk)
    with pytest.raises(StoreError, match=r"No space left on device\. Free space or name another --out"):
        run(pixels[0], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"features.json", "sheets"}


def test_a_sheet_that_cannot_be_written_ends_everything(pixels: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "sheets").write_text("in the way")
    with pytest.raises(MilbenchError, match="cannot write to"):
        run(pixels[0], tmp_path)


def test_patches_of_half_the_resolution_are_means_of_four_pixels(
    pixels: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    run(pixels[0], tmp_path, replace(SETTINGS, mpp=2.0, dtype="float32", patch_size=16, step=16))
    features, coords, attributes, _ = stored(tmp_path, "a")
    assert attributes["patch_size_level0"] == 64
    whole = pixels[1]["a"].astype(float)
    for row, (x, y) in zip(features, coords.tolist(), strict=True):
        assert np.abs(row[:3] - whole[y : y + 64, x : x + 64].mean((0, 1))).max() < 1, "read from level 1, made half"
