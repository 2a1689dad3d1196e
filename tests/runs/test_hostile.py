"""Run folders that somebody or something has harmed: one clear message or a right result, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_for_tests import COMMANDS, Hostile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from run_mutations import (
    OTHER_VALUES,
    TABLE_CHANGES,
    change_table,
    cut,
    delete_key,
    files_of,
    flip,
    replace_value,
    reseal,
)
from safetensors.numpy import load_file, save_file
from weighted_runs_for_tests import train, write_cohort

from milbench.commands.cli import main
from milbench.errors import StoreError
from milbench.runs.merge import merge
from milbench.store.run import open_run
from milbench.tracking.client import client_of, default_uri

pytestmark = pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")  # MLflow's use of SQLAlchemy 2.1


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    folder = tmp_path_factory.mktemp("hostile")
    cohort = write_cohort(folder / "toy")
    whole = train(folder, cohort)
    client_of(default_uri(folder))
    return Hostile(whole, cohort, folder / "mlflow.db", tmp_path_factory.mktemp("here"))


HARM: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: cut(path, 0),
    "half": lambda path: cut(path, 0.5),
    "one byte changed": lambda path: flip(path, 0.3, 1),
    "no text": lambda path: flip(path, 0.1, 128),
    "a list": lambda path: path.write_text("[1, 2]"),
    "nothing in it": lambda path: path.write_text("{}"),
    "text": lambda path: path.write_text('"x"'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "an absurd number": lambda path: path.write_text("9" * 100_000),
    "a table of something else": lambda path: path.write_text("a,b\n1,2\n"),
}


@pytest.mark.parametrize("harm", HARM)
def test_every_harmed_file_is_refused_or_left_out_by_status_and_merge(
    hostile: Hostile, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in files_of(hostile.whole):
        HARM[harm](hostile.fresh() / file)
        for command in ("status", "merge"):
            hostile.try_command(command, capsys)


@pytest.mark.parametrize("file", ["run.yaml", "environment.json", "datasets.json", "plan.json", "questions.json"])
def test_a_harmed_header_is_named_with_what_to_do(
    hostile: Hostile, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (hostile.fresh() / file).write_text("[1, 2]")
    for command in ("status", "merge", "report", "track", "heatmap", "run"):
        assert hostile.try_command(command, capsys) == "refused", command
    with pytest.raises(
        StoreError, match=rf"{file} is damaged \(.* is \[1, 2\]; expected a mapping.*Delete it and start"
    ):
        open_run(hostile.run)


@pytest.mark.parametrize("change", TABLE_CHANGES)
@pytest.mark.parametrize("file", ["predictions.parquet", "history.parquet"])
def test_a_table_of_another_schema_is_damaged_although_its_checksum_fits(
    hostile: Hostile, file: str, change: str
) -> None:
    trial = first_trial(hostile.fresh())
    change_table(trial / file, TABLE_CHANGES[change])
    assert left_out(hostile.run, trial), change


def first_trial(run: Path) -> Path:
    return min(path.parent for path in run.glob("trials/*/*/*/*/trial.json"))


def left_out(run: Path, trial: Path) -> str:
    """Why the trial is damaged; fails if it counts."""
    trial_id = trial.relative_to(run / "trials").as_posix()
    opened = open_run(run)
    assert trial_id not in {trial.id for trial in opened.trials()}
    assert trial_id in opened.planned().values()
    return opened.damage(trial_id)


def change_record(trial: Path, **changed: Any) -> None:
    record = json.loads((trial / "trial.json").read_text())
    (trial / "trial.json").write_text(json.dumps({**record, **changed}))


def test_a_trial_in_anothers_place_is_damaged_and_named(hostile: Hostile) -> None:
    run = hostile.fresh()
    first, second = sorted(path.parent for path in run.glob("trials/*/amil/*/*/trial.json"))[:2]
    shutil.rmtree(first)
    shutil.copytree(second, first)
    own_id = second.relative_to(run / "trials").as_posix()
    assert left_out(run, first) == f"its trial.json is that of {own_id}"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"seed": 43}, "does not follow from the settings"),
        ({"fingerprint": "f" * 64}, "does not follow from the settings"),
        ({"payload_sha256": {}}, "no checksum"),
        ({"payload_sha256": {"../../x": "0" * 64}}, "a key of .*payload_sha256 is"),
        ({"payload_sha256": {"predictions.parquet": "0" * 64, "history.parquet": "0" * 64}}, "another checksum"),
        ({"n_parameters": 10**6}, "expected at least 1,000,000"),
        ({"finished_at": "yesterday"}, "Invalid isoformat"),
        ({"model_title": 3}, "model_title is 3; expected text"),
    ],
)
def test_a_record_that_proves_nothing_is_damaged(hostile: Hostile, changed: dict[str, Any], why: str) -> None:
    trial = first_trial(hostile.fresh())
    change_record(trial, **changed)
    assert re.search(why, left_out(hostile.run, trial))


def test_weights_of_another_model_are_damaged(hostile: Hostile) -> None:
    run = hostile.fresh()
    small, large = (next(run.glob(f"trials/*/{name}/*/*/model.safetensors")) for name in ("mean_pooling", "m4"))
    shutil.copy(small, large)
    reseal(large)
    assert "model.safetensors holds" in left_out(run, large.parent)


def test_weights_of_another_shape_are_named_by_status_and_computed_again_to_the_same_bytes(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = first_trial(hostile.fresh()) / "model.safetensors"
    save_file({name: tensor.T.copy() for name, tensor in load_file(weights).items()}, weights)
    reseal(weights)
    assert re.search(r"model\.safetensors holds .* as F32 \[.*\]; expected F32", left_out(hostile.run, weights.parent))
    assert main(["status", str(hostile.run)]) == 0
    assert re.search(r"damaged: .*model\.safetensors holds", capsys.readouterr().out)
    assert hostile.try_command("run", capsys) == "right"


def test_damaged_trials_are_named_and_computed_again_to_the_same_bytes(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = first_trial(hostile.fresh())
    change_table(trial / "predictions.parquet", TABLE_CHANGES["rows twice"])
    trial_id = trial.relative_to(hostile.run / "trials").as_posix()
    assert "holds a slide twice" in open_run(hostile.run).damaged()[trial_id]
    assert hostile.try_command("run", capsys) == "right"


@pytest.fixture
def precious(hostile: Hostile) -> Path:
    """A folder beside OUT that no merge may touch."""
    keep = hostile.here / "keep"
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir()
    (keep / "notes.txt").write_text("precious")
    return keep


def assert_untouched(keep: Path) -> None:
    assert [path.name for path in keep.iterdir()] == ["notes.txt"]
    assert (keep / "notes.txt").read_text() == "precious"


def outside_of(folder: Path) -> dict[str, bytes]:
    """Every file beside the folder."""
    return {
        str(path): path.read_bytes()
        for path in folder.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(folder)
    }


@pytest.mark.parametrize(
    "odd", ["../../keep", "/etc/keep", "..", "a/../../../keep", "a\\..\\keep", "x\0y", ".keep", "a/b"]
)
@pytest.mark.parametrize("part", range(4))
def test_a_plan_never_leads_out_of_the_folder(hostile: Hostile, precious: Path, part: int, odd: str) -> None:
    run = hostile.fresh()
    plan = json.loads((run / "plan.json").read_text())
    slot, trial_id = next(iter(plan.items()))
    names, digits = slot.split("/"), trial_id[-8:]
    names[part] = odd
    plan["/".join(names)] = "/".join(names) + f"-{digits}"
    (run / "plan.json").write_text(json.dumps(plan))
    before = outside_of(hostile.out)
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        merge(hostile.out, [run])
    assert outside_of(hostile.out) == before
    assert_untouched(precious)


def test_a_trial_id_that_is_no_place_of_its_own_is_refused(hostile: Hostile, precious: Path) -> None:
    run = hostile.fresh()
    plan = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**plan, next(iter(plan)): "../../keep"}))
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        merge(hostile.out, [run])
    assert_untouched(precious)


def test_a_dataset_whose_name_leads_elsewhere_is_refused(hostile: Hostile, precious: Path) -> None:
    run = hostile.fresh()
    facts = json.loads((run / "datasets.json").read_text())
    (run / "datasets.json").write_text(json.dumps({**facts, "../../keep/notes": facts["toy"]}))
    with pytest.raises(StoreError, match="expected a name without slash"):
        merge(hostile.out, [run])
    assert_untouched(precious)


@pytest.mark.parametrize(
    "place", ["trials", "splits", "labels", "failures", "locks", "partial", "claims", "checkpoints"]
)
def test_a_link_inside_a_run_is_not_followed(hostile: Hostile, precious: Path, place: str) -> None:
    run = hostile.fresh()
    shutil.rmtree(run / place, ignore_errors=True)
    (run / place).symlink_to(precious)
    with pytest.raises(StoreError, match=rf"{place} is a symbolic link"):
        merge(hostile.out, [run])
    assert_untouched(precious)


@pytest.mark.parametrize("place", ["trials", "splits", "labels", "locks", "partial", "failures"])
def test_a_link_inside_the_folder_that_is_merged_into_is_not_followed(
    hostile: Hostile, precious: Path, place: str
) -> None:
    run = hostile.fresh()
    hostile.out.mkdir()
    (hostile.out / place).symlink_to(precious)
    with pytest.raises(StoreError, match=rf"{place} is a symbolic link"):
        merge(hostile.out, [run])
    assert_untouched(precious)


def test_a_trial_that_is_a_link_or_holds_one_is_damaged(hostile: Hostile, precious: Path) -> None:
    run = hostile.fresh()
    first, second = sorted(path.parent for path in run.glob("trials/*/amil/*/*/trial.json"))[:2]
    moved = hostile.here / "keep" / "moved"
    shutil.move(first, moved)
    first.symlink_to(moved)
    weights = second / "model.safetensors"
    shutil.move(weights, moved / "weights")
    weights.symlink_to(moved / "weights")
    merged = merge(hostile.out, [run])
    assert len(merged.damaged) == 2
    assert not [path for path in hostile.out.rglob("*") if path.is_symlink()]


def test_files_beside_a_trial_do_not_come_along(hostile: Hostile) -> None:
    trial = first_trial(hostile.fresh())
    (trial / "notes.txt").write_text("mine")
    (trial / "link").symlink_to("/etc/passwd")
    merge(hostile.out, [hostile.run])
    copied = hostile.out / trial.relative_to(hostile.run)
    assert {path.name for path in copied.iterdir()} == {
        "predictions.parquet", "history.parquet", "model.safetensors", "trial.json"
    }  # fmt: skip


@pytest.mark.parametrize("file", ["run.yaml", "plan.json", "labels/toy.csv", "trials/x/trial.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    hostile: Hostile, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hostile.fresh()
    path = first_trial(run) / "trial.json" if file.startswith("trials") else run / file
    path.unlink()
    os.mkfifo(path)
    for command in ("status", "merge"):
        hostile.try_command(command, capsys)


def test_a_run_name_that_no_folder_can_have_is_one_message(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["status", "x" * 300], ["merge", "x" * 300, str(hostile.fresh())], ["report", "x" * 300]):
        assert main_code(words) == 2
        assert "File name too long" in capsys.readouterr().err


def main_code(words: list[str]) -> int:
    from milbench.commands.cli import main

    return main(words)


def test_a_plugin_that_lies_in_the_run_folder_is_not_imported(
    hostile: Hostile, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hostile.fresh()
    (run / "model.py").write_text(f"open({str(hostile.here / 'ran')!r}, 'w')\n")
    (run / "run.yaml").write_text((run / "run.yaml").read_text().replace("plugins: []", f"plugins: ['{run}/model.py']"))
    assert hostile.try_command("heatmap", capsys) == "refused"
    assert not (hostile.here / "ran").exists()


# ---- at random -----------------------------------------------------------------------------------

PLACE = st.floats(0, 1)
EXAMPLES = {"status": 1000, "merge": 400, "report": 60, "track": 60, "heatmap": 100, "run": 60}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", COMMANDS)
def test_any_harm_to_any_file_is_a_message_or_a_right_result(
    hostile: Hostile, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = files_of(hostile.whole)

    @settings(
        max_examples=int(os.environ.get("MILBENCH_EXAMPLES", EXAMPLES[command])), deadline=None, derandomize=True,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.sampled_from(files), st.data())
    def harm_and_try(file: Path, data: st.DataObject) -> None:
        harm(hostile.fresh() / file, data)
        hostile.try_command(command, capsys)

    harm_and_try()
    told = {outcome: count for (name, outcome), count in hostile.counts.items() if name == command}
    with capsys.disabled():
        sys.stdout.write(f"\n{command}: {told}\n")
    assert told


def harm(path: Path, data: st.DataObject) -> None:
    """One kind of harm to the file, drawn at random."""
    kinds = ["cut", "flip"]
    if path.suffix == ".parquet":
        kinds.append("table")
    elif path.suffix != ".safetensors":
        kinds += ["value", "value", "key"]
    kind, at = data.draw(st.sampled_from(kinds)), data.draw(PLACE)
    if kind == "cut":
        cut(path, at)
    elif kind == "flip":
        flip(path, at, data.draw(st.integers(1, 255)))
    elif kind == "table":
        change_table(path, TABLE_CHANGES[data.draw(st.sampled_from(sorted(TABLE_CHANGES)))])
    elif kind == "key":
        delete_key(path, at)
    else:
        replace_value(path, at, data.draw(st.sampled_from(OTHER_VALUES)))
