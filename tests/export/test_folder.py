"""An export lies there whole or not at all, the same each time, and nothing that was there is lost."""

import json
import re
import shutil
from pathlib import Path

import pytest
from exports_for_tests import copy_of, exported, run_for_exports

from milbench.commands.cli import main
from milbench.errors import StoreError
from milbench.export import folder as module
from milbench.export.exported import load_exported
from milbench.runs.notebook import NotebookRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return run_for_exports(tmp_path_factory)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milbench.export.onnx_graph.find_spec", lambda _: None)


def test_exporting_twice_gives_the_same_bytes(run: NotebookRun, tmp_path: Path) -> None:
    first, again = tmp_path / "a", tmp_path / "b"
    exported(run, first, "mean_pooling", task="subtype")
    exported(run, again, "mean_pooling", task="subtype")
    assert set(bytes_of(first)) == {
        "model.json", "README.md", "fold0-seed42.safetensors", "fold1-seed42.safetensors",
    }  # fmt: skip
    assert bytes_of(first) == bytes_of(again)
    exported(run, first, "mean_pooling", task="subtype")  # into the same folder
    assert bytes_of(first) == bytes_of(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_card_that_was_filled_in_is_not_lost(run: NotebookRun, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(run, out, "mean_pooling", task="A", fold=0)
    card = (out / "README.md").read_text().replace("# license:", "license: mit #")
    (out / "README.md").write_text(card)
    with pytest.raises(StoreError, match=r"or one that was edited: README\.md would change\. It was left as it is"):
        exported(run, out, "mean_pooling", task="A", fold=0)
    assert (out / "README.md").read_text() == card
    assert list(tmp_path.iterdir()) == [out]


def test_another_export_is_not_replaced(run: NotebookRun, tmp_path: Path) -> None:
    exported(run, tmp_path / "out", "mean_pooling", task="A", fold=0)
    before = bytes_of(tmp_path / "out")
    with pytest.raises(StoreError, match=r"README\.md, model\.json, model\.safetensors would change"):
        exported(run, tmp_path / "out", "mean_pooling", task="A", fold=1)
    assert bytes_of(tmp_path / "out") == before


def test_a_folder_of_something_else_is_left_as_it_is(run: NotebookRun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds notes\.txt, which is no exported model"):
        exported(run, tmp_path / "out", "mean_pooling", task="A")
    assert bytes_of(tmp_path / "out") == {"notes.txt": b"mine"}


def test_a_file_or_a_link_in_the_way_is_left_as_it_is(run: NotebookRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(StoreError, match="is no folder"):
            exported(run, tmp_path / name, "mean_pooling", task="A")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_folder_is_filled(run: NotebookRun, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    exported(run, tmp_path / "out", "mean_pooling", task="A", fold=0)
    assert load_exported(tmp_path / "out").tasks == ("A",)


def test_an_interrupt_leaves_no_half_folder(run: NotebookRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        assert any(path.name.startswith(".out") for path in tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_refuse_other_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exported(run, tmp_path / "out", "mean_pooling", task="A")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_weights_says_what_to_do(run: NotebookRun, tmp_path: Path) -> None:
    bare = copy_of(run, tmp_path / "copy")
    for path in bare.path.rglob("trial.json"):
        record = json.loads(path.read_text())
        del record["payload_sha256"]["model.safetensors"]
        path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"keeps no weights .* Run once more without --no-weights"):
        exported(bare, tmp_path / "out", "mean_pooling", task="A", fold=0)
    assert not (tmp_path / "out").exists()


def test_of_a_half_finished_run_a_done_fold_is_exported_and_no_ensemble(run: NotebookRun, tmp_path: Path) -> None:
    half = copy_of(run, tmp_path / "copy")
    shutil.rmtree(half.trial_folder(run.model("m4", fold=1).trial.id))
    with pytest.raises(
        StoreError,
        match=r"1 of 2 trainings of m4 are not done, failed or are damaged .* export one that is done: --fold 0",
    ):
        exported(half, tmp_path / "out", "m4")
    with pytest.raises(StoreError, match="is not done, failed or is damaged"):
        exported(half, tmp_path / "out", "m4", fold=1)
    exported(half, tmp_path / "out", "m4", fold=0)
    assert "1 of 2 planned trainings were not done" in (tmp_path / "out" / "README.md").read_text()


def test_weights_that_are_missing_in_the_run_are_damage(run: NotebookRun, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "copy")
    (copy.trial_folder(run.model("m4", fold=0).trial.id) / "model.safetensors").unlink()
    with pytest.raises(StoreError, match="is not done, failed or is damaged"):
        exported(copy, tmp_path / "out", "m4", fold=0)


def test_a_cohort_that_has_gone_is_asked_for_if_scalers_have_to_be_fitted(run: NotebookRun, tmp_path: Path) -> None:
    copy = copy_of(run, tmp_path / "copy")
    config = copy.path / "run.yaml"
    config.write_text(config.read_text().replace(str(run.path.parent.parent), str(tmp_path / "gone")))
    assert main(["export", str(copy.path), "m4", "--fold", "0", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m5"], "unknown model of the run 'm5'. Did you mean 'm4'?"),
        (["mean_pooling"], "mean_pooling on toy has several tasks: A, grade, hrd, os, subtype."),
        (["mean_pooling", "--task", "B"], "unknown task of mean_pooling on toy 'B'."),
        (["m4", "--task", "B"], "unknown task of m4 on toy 'B'."),
        (["m4", "--fold", "7"], "unknown fold of m4 on toy '7'. Known: 0, 1."),
        (["m4", "--fold", "first"], "--fold is 'first'. Give the number of a fold, such as 0, or ensemble."),
        (["m4", "--seed", "42"], "an ensemble has the trainings of all seeds."),
        (["m4", "--fold", "0", "--seed", "1"], "unknown seed of m4 on toy, fold 0 '1'. Known: 42."),
        (["m4", "--draws", "3"], "--draws is 3. Give 100 or more"),
        (["m4", "--dataset", "other"], "unknown dataset of m4 'other'. Known: toy."),
    ],
)
def test_what_is_unknown_is_one_message(
    run: NotebookRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["export", str(run.path), *words, "--out", str(tmp_path / "out")]) == 2
    assert message in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote_and_why_there_is_no_onnx_file(
    run: NotebookRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run.path), "mean_pooling", "--task", "A", "--fold", "1", "--draws", "100"]) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "exported: exports/toy/mean_pooling-A-fold1-seed42" in said
    assert "note: no ONNX file. Not installed: onnx, onnxscript, onnxruntime" in said
    facts = json.loads((tmp_path / "exports/toy/mean_pooling-A-fold1-seed42/model.json").read_text())
    assert facts["onnx"]["file"] is None
    assert "pip install 'milbench[onnx]'" in facts["onnx"]["reason"]
