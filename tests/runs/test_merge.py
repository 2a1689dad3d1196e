"""Merging run folders: a union of what is intact, and a refusal of what is another study."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands_for_tests import Milbench
from runs_for_tests import make_run
from safetensors.numpy import save_file

from milbench.cohorts.content import SlideContent
from milbench.cohorts.record import ContentRecord, read_record
from milbench.engines.shards import ShardRecord, write_record
from milbench.errors import StoreError
from milbench.runs.merge import merge
from milbench.store.run import Run, open_run
from milbench.store.run_folder import ENVIRONMENT
from milbench.store.run_writing import clear_failure, write_failure

MODELS = ("amil", "m4")
SPLIT = "patient_id,fold_0,fold_1\np,test,test\n"


def files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("trials/**/*") if path.is_file()}


def split_up(whole: Run, folder: Path, count: int) -> list[Path]:
    """The folders of `count` shards of a run."""
    slots = list(whole.planned())
    paths = []
    for number in range(1, count + 1):
        path = folder / f"shard{number}"
        mine = slots[number - 1 :: count]
        shutil.copytree(whole.path, path)
        for slot in set(slots) - set(mine):
            shutil.rmtree(path / "trials" / whole.planned()[slot])
        (path / "plan.json").write_text(json.dumps({slot: whole.planned()[slot] for slot in mine}))
        write_record(Run(path), ShardRecord(number, count, whole.planned(), tuple(mine)))
        paths.append(path)
    return paths


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    run = make_run(tmp_path / "whole", models=MODELS, folds=(0, 1))
    (run.path / "splits" / "toy.csv").write_text(SPLIT)
    change(run.path, "toy", split_sha256=hashlib.sha256(SPLIT.encode()).hexdigest())
    (run.path / "labels" / "toy.csv").write_text("slide_id,patient_id,A\ns,p,1.0\n")
    return run


@pytest.fixture
def shards(whole: Run, tmp_path: Path) -> list[Path]:
    return split_up(whole, tmp_path, 3)


def change(path: Path, section: str, **values: object) -> None:
    facts = json.loads((path / "datasets.json").read_text())
    facts[section] |= values
    (path / "datasets.json").write_text(json.dumps(facts))


def test_shards_merge_into_the_whole_byte_for_byte(whole: Run, shards: list[Path], tmp_path: Path) -> None:
    merged = merge(tmp_path / "out", shards)
    assert (merged.n_trials, merged.left, merged.damaged, merged.conflicts, merged.notes) == (10, 0, (), (), ())
    assert files(tmp_path / "out") == files(whole.path)
    assert open_run(tmp_path / "out").planned() == whole.planned()
    assert Run(tmp_path / "out").labels("toy")["A"].tolist() == [1.0]
    assert (tmp_path / "out" / "splits" / "toy.csv").read_bytes() == (whole.path / "splits" / "toy.csv").read_bytes()
    assert not list((tmp_path / "out" / "partial").iterdir())


def test_a_missing_shard_is_named_and_nothing_is_written(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"shard 2/3 is missing, with 3 of 10 trials.*--allow-missing-shards"):
        merge(tmp_path / "out", [shards[0], shards[2]])
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_can_be_allowed_and_added_later(whole: Run, shards: list[Path], tmp_path: Path) -> None:
    part = merge(tmp_path / "out", [shards[0], shards[2]], allow_missing_shards=True)
    assert (part.n_trials, part.left) == (7, 3)
    assert "shard 2/3 is missing" in part.notes[0]
    assert merge(tmp_path / "out", [shards[1]]).left == 0
    assert files(tmp_path / "out") == files(whole.path)


def test_the_command_line_exits_with_2_where_a_shard_is_missing(
    milbench_here: Milbench, shards: list[Path], tmp_path: Path
) -> None:
    words = ("merge", str(tmp_path / "out"), *map(str, shards[:2]))
    refused = milbench_here(*words)
    assert refused.returncode == 2
    assert "shard 3/3 is missing" in refused.stderr
    allowed = milbench_here(*words, "--allow-missing-shards")
    assert allowed.returncode == 3
    assert "3 trials not done anywhere" in allowed.stdout
    assert milbench_here(*words, str(shards[2])).returncode == 0


def test_a_shards_own_folder_is_no_place_for_the_whole(shards: list[Path]) -> None:
    config = yaml.safe_load((shards[0] / "run.yaml").read_text())
    (shards[0] / "run.yaml").write_text(yaml.safe_dump({**config, "engine": {"shard": "1/3"}}))
    before = (shards[0] / "plan.json").read_bytes()
    with pytest.raises(StoreError, match=r"shard1 is shard 1/3, but the first folder"):
        merge(shards[0], shards[1:])
    assert (shards[0] / "plan.json").read_bytes() == before


def test_a_failure_is_forgotten_when_its_trial_arrives(whole: Run, shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    trial = open_run(shards[0]).trials()[0]
    kept = tmp_path / "kept"
    shutil.move(trial.path, kept)
    write_failure(
        open_run(shards[0]), trial.info["key"], {"id": trial.id, "type": "ValueError", "message": "m", "traceback": ""}
    )
    merge(out, shards)
    assert [row["id"] for row in open_run(out).failures()] == [trial.id]
    shutil.move(kept, trial.path)
    clear_failure(open_run(shards[0]), trial.info["key"])
    merge(out, shards)
    assert open_run(out).failures() == []
    assert files(out) == files(whole.path)


def test_weights_that_only_one_folder_keeps_are_no_conflict(whole: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    info_file = next(other.glob("trials/*/*/*/*/trial.json"))
    info = json.loads(info_file.read_text())
    weights = info_file.with_name("model.safetensors")
    save_file({"w": np.zeros(info["n_parameters"], dtype=np.float32)}, weights)
    info["payload_sha256"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
    info_file.write_text(json.dumps(info))
    assert merge(tmp_path / "out", [whole.path, other]).conflicts == ()


@pytest.mark.parametrize(("folds", "union"), [(([0], [1, 2]), [0, 1, 2]), (([0], []), [])])
def test_the_merged_configuration_repeats_all_folds(
    whole: Run, tmp_path: Path, folds: tuple[list[int], list[int]], union: list[int]
) -> None:
    others = [tmp_path / name for name in ("a", "b")]
    for other, own in zip(others, folds, strict=True):
        shutil.copytree(whole.path, other)
        config = yaml.safe_load((other / "run.yaml").read_text())
        (other / "run.yaml").write_text(yaml.safe_dump({**config, "folds": own}))
    merge(tmp_path / "out", others)
    assert open_run(tmp_path / "out").config["folds"] == union


def test_other_settings_are_refused_by_name(shards: list[Path], tmp_path: Path) -> None:
    config = yaml.safe_load((shards[1] / "run.yaml").read_text())
    (shards[1] / "run.yaml").write_text(yaml.safe_dump({**config, "trainer": {"epochs": 3}}))
    with pytest.raises(StoreError, match=r"shard2 was run with other settings than .*shard1 \(trainer: "):
        merge(tmp_path / "out", shards)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "what"), [("split_sha256", "split table"), ("fingerprint", "labels or features")])
def test_other_data_or_splits_are_refused(shards: list[Path], tmp_path: Path, key: str, what: str) -> None:
    change(shards[2], "toy", **{key: "another"})
    with pytest.raises(StoreError, match=f"shard3 has another {what} of 'toy'"):
        merge(tmp_path / "out", shards)


def remember(path: Path, slides: dict[str, str], content: str) -> None:
    """Let a run folder have seen these slides, under the one fingerprint."""
    record = ContentRecord({name: SlideContent((), sha) for name, sha in slides.items()}, {"f" * 64: content})
    Run(path).content_file("toy").parent.mkdir(exist_ok=True)
    Run(path).content_file("toy").write_bytes(record.to_json())


def test_what_the_folders_remember_of_feature_files_is_merged(shards: list[Path], tmp_path: Path) -> None:
    remember(shards[0], {"s1": "1" * 64}, "c" * 64)
    remember(shards[2], {"s1": "1" * 64, "s2": "2" * 64}, "c" * 64)
    merge(tmp_path / "out", shards)
    record = read_record(Run(tmp_path / "out").content_file("toy"))
    assert {slide: found.sha256 for slide, found in record.slides.items()} == {"s1": "1" * 64, "s2": "2" * 64}
    assert record.first == {"f" * 64: "c" * 64}


def test_folders_whose_feature_files_differ_between_their_ends_are_not_merged(
    shards: list[Path], tmp_path: Path
) -> None:
    remember(shards[0], {"s1": "1" * 64, "s2": "2" * 64}, "c" * 64)
    remember(shards[1], {"s1": "1" * 64, "s2": "3" * 64}, "d" * 64)
    with pytest.raises(
        StoreError, match=r"shard2 was computed with other features of 'toy' than .*for 1 slide, such as s2"
    ):
        merge(tmp_path / "out", shards)
    assert not (tmp_path / "out").exists()


def test_shards_of_another_plan_or_number_are_refused(whole: Run, shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "four").mkdir()
    fourth = split_up(whole, tmp_path / "four", 4)[0]
    with pytest.raises(StoreError, match="all shards of one plan have the same number of parts"):
        merge(tmp_path / "out", [*shards, fourth])
    slots = dict(list(whole.planned().items())[1:])
    (shards[0] / "shards" / "1-of-3.json").unlink()
    write_record(Run(shards[0]), ShardRecord(1, 3, slots, tuple(slots)[:1]))
    with pytest.raises(StoreError, match=r"another plan .* they differ in toy/amil/A_B/fold"):
        merge(tmp_path / "out", shards)


def test_another_version_of_a_trial_is_refused(whole: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    slot, trial_id = next(iter(whole.planned().items()))
    (other / "plan.json").write_text(json.dumps({slot: f"{trial_id[:-8]}00000000"}))
    with pytest.raises(StoreError, match=f"two different trials for {slot}"):
        merge(tmp_path / "out", [whole.path, other])


def test_a_damaged_trial_is_left_out_and_named_unless_another_folder_has_it(
    whole: Run, shards: list[Path], tmp_path: Path
) -> None:
    trial = Run(shards[0]).trials()[0]
    (trial.path / "predictions.parquet").write_bytes(b"half")
    merged = merge(tmp_path / "out", shards)
    assert (merged.n_trials, merged.damaged, merged.left) == (9, (trial.id,), 1)
    assert merge(tmp_path / "out", [whole.path]).n_trials == 10
    assert files(tmp_path / "out") == files(whole.path)


def test_nothing_is_overwritten_and_a_contradiction_is_named(whole: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    shutil.copytree(other, tmp_path / "out")
    trial = Run(other).trials()[0]
    kept = files(tmp_path / "out")
    history = trial.path / "history.parquet"
    trial.history().assign(lr=9.0).to_parquet(history, index=False)
    digests = {**trial.info["payload_sha256"], history.name: hashlib.sha256(history.read_bytes()).hexdigest()}
    (trial.path / "trial.json").write_text(json.dumps({**trial.info, "payload_sha256": digests}))
    assert merge(tmp_path / "out", [other]).conflicts == (trial.id,)
    assert files(tmp_path / "out") == kept


def test_failures_come_along_until_the_trial_is_done(whole: Run, tmp_path: Path) -> None:
    slot, trial_id = next(iter(whole.planned().items()))
    half = tmp_path / "half"
    shutil.copytree(whole.path, half)
    shutil.rmtree(half / "trials" / trial_id)
    write_failure(Run(half), trial_id[-8:] + "rest", {"id": trial_id, "type": "ValueError", "message": "on purpose"})
    assert [f["id"] for f in merge(tmp_path / "out", [half]).run.failures()] == [trial_id], slot
    assert merge(tmp_path / "both", [half, whole.path]).run.failures() == []


def test_folders_of_other_versions_of_packages_are_told(whole: Run, shards: list[Path], tmp_path: Path) -> None:
    environment = json.loads((shards[1] / ENVIRONMENT).read_text())
    (shards[1] / ENVIRONMENT).write_text(json.dumps({**environment, "packages": {"torch": "1.0"}}))
    (note,) = merge(tmp_path / "out", shards).notes
    assert "shard2 was computed with other packages than" in note


def test_a_run_folder_from_an_older_version_can_be_read_and_merged(whole: Run, tmp_path: Path) -> None:
    """Before shards, claims and the folder's own format number."""
    environment = json.loads((whole.path / ENVIRONMENT).read_text())
    del environment["run_format"]
    (whole.path / ENVIRONMENT).write_text(json.dumps(environment))
    (whole.path / "run.yaml").write_text(yaml.safe_dump({"models": ["amil"], "engine": {"workers": 1}}))
    assert len(open_run(whole.path).trials()) == 10
    assert merge(tmp_path / "out", [whole.path]).n_trials == 10


def test_a_run_folder_from_a_newer_version_is_one_clear_message(
    milbench_here: Milbench, whole: Run, tmp_path: Path
) -> None:
    environment = json.loads((whole.path / ENVIRONMENT).read_text())
    (whole.path / ENVIRONMENT).write_text(json.dumps({**environment, "run_format": 99, "milbench": "7.0"}))
    result = milbench_here("merge", str(tmp_path / "out"), str(whole.path))
    assert result.returncode == 2
    assert "was written by milbench 7.0" in result.stderr
    assert "Update milbench" in result.stderr


def test_status_counts_by_model_and_writes_nothing(milbench_here: Milbench, shards: list[Path]) -> None:
    before = sorted(shards[0].rglob("*"))
    result = milbench_here("status", str(shards[0]))
    assert result.returncode == 0
    assert "shards in this folder: 1/3" in result.stdout
    assert sorted(shards[0].rglob("*")) == before
