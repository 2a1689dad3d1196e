"""What a bundle holds, what it must not hold, and that the same run gives the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from bundles_for_tests import (
    FOLDER,
    HAS_ROCRATE,
    HOST,
    SALT,
    config_of,
    make_bundle,
    make_sound_run,
    patient,
    slide,
    trial_folder,
    wishes,
)  # fmt: skip
from commands_for_tests import Milbench

from milbench.bundles.bundle import bundle
from milbench.bundles.pseudonyms import salt_in
from milbench.bundles.scrub import Scrubber
from milbench.bundles.soundness import differences
from milbench.bundles.verify import opened, verify
from milbench.errors import StoreError, UsageError
from milbench.store.run import Run, open_run

IDS = [*(patient(number) for number in range(60)), *(slide(number) for number in range(60))]


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page alone in place of a report, which other tests make once for all."""

    def write(_runs: object, out: Path, **_: object) -> None:
        out.mkdir()
        (out / "index.html").write_text("<p>a report</p>")

    monkeypatch.setattr("milbench.bundles.bundle.write_report", write)


def everything_in(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every name and all bytes below a folder: as they lie there, parquet cell by cell, PDF streams and PNG texts unpacked."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        yield name, name.encode()
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield name, content
        if path.suffix == ".parquet":
            yield name, pd.read_parquet(path).to_csv().encode()
        for found in re.finditer(rb"stream\r?\n", content) if path.suffix == ".pdf" else ():
            yield (
                name,
                zlib.decompressobj().decompress(content[found.end() :], 10**7) if content[found.end()] == 0x78 else b"",
            )
        for found in re.finditer(rb"(?:zTXt|iTXt)", content) if path.suffix == ".png" else ():
            yield name, content[found.end() : found.end() + 4000]
        for found in re.finditer(rb"base64,([A-Za-z0-9+/=]+)", content) if path.name != "plotly.min.js" else ():
            yield name, base64.b64decode(found[1])


def files_with(root: Path, words: list[str]) -> list[tuple[str, str]]:
    searched = re.compile("|".join(map(re.escape, words)).encode())
    return [(name, found[0].decode()) for name, content in everything_in(root) if (found := searched.search(content))]


def test_a_bundle_holds_what_a_reader_needs(bundled: Path) -> None:
    names = {path.relative_to(bundled).as_posix() for path in bundled.rglob("*") if path.is_file()}
    assert {
        "bundle.json",
        "README.md",
        "CITATION.cff",
        "checksums.sha256",
        "report/index.html",
        "report/table2.csv",
    } <= names
    assert {
        f"runs/toy/{name}"
        for name in ("run.yaml", "plan.json", "environment.json", "datasets.json", "labels/toy.csv", "splits/toy.csv")
    } <= names
    assert [name for name in names if name.endswith((".h5", ".safetensors", ".lock"))] == []
    assert not any(name.startswith("runs/toy/features") for name in names)


def test_checksums_are_those_that_sha256sum_reads(bundled: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "checksums.sha256"], cwd=bundled, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    lines = (bundled / "checksums.sha256").read_text().splitlines()
    assert len(lines) == sum(path.is_file() for path in bundled.rglob("*")) - 1
    digest, name = lines[0].split("  ")
    assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest


def test_a_bundle_names_no_folder_host_or_user_of_the_machine(bundled: Path, sound_run: Run) -> None:
    names = [
        HOST,
        FOLDER,
        "somebody",
        "secret",
        "tracking.example",
        str(Path.home()),
        str(sound_run.path.parent),
        str(Path.cwd()),
    ]
    assert files_with(bundled, names) == []


def test_ids_stay_unless_they_are_to_be_hidden(bundled: Path) -> None:
    assert files_with(bundled, [patient(3)])


def test_an_anonymised_bundle_holds_no_id_in_any_byte(hidden: Path) -> None:
    assert files_with(hidden, [*IDS, SALT.salt.hex()]) == []


def test_pseudonyms_are_the_same_in_splits_labels_and_predictions(hidden: Path) -> None:
    split = pd.read_csv(hidden / "runs/toy/splits/toy.csv")
    labels = pd.read_csv(hidden / "runs/toy/labels/toy.csv")
    rows = pd.read_parquet(trial_folder(hidden, "toy/m4/all/fold0") / "predictions.parquet")
    assert set(split["patient_id"]) == set(labels["patient_id"]) == {SALT.id(patient(number)) for number in range(60)}
    assert set(rows["slide_id"]) < set(labels["slide_id"])
    known = labels.set_index("slide_id")["patient_id"]
    assert (rows["slide_id"].map(known) == rows["patient_id"]).all()


def test_the_order_of_rows_tells_nothing_about_ids(hidden: Path) -> None:
    for name in ("splits", "labels"):
        first = pd.read_csv(hidden / f"runs/toy/{name}/toy.csv").iloc[:, 0]
        assert list(first) == sorted(first)


def test_an_anonymised_bundle_has_the_same_scores(bundled: Path, hidden: Path) -> None:
    ours, theirs = (pd.read_csv(root / "report/data/scores.csv") for root in (bundled, hidden))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-12)


def test_a_run_in_a_bundle_is_a_run_folder_with_the_trials_of_the_run(bundled: Path, sound_run: Run) -> None:
    travelling = open_run(bundled / "runs/toy")
    assert travelling.planned() == sound_run.planned()
    assert travelling.damaged() == {}
    assert travelling.roles("toy").equals(sound_run.roles("toy"))
    assert config_of(bundled) == {"models": ["amil", "m4"], "cohorts": ["toy"]}


def test_the_same_run_gives_the_same_bytes(sound_run: Run, tmp_path: Path, no_report: None) -> None:
    first, second = (make_bundle(sound_run, tmp_path / place / "toy.zip") for place in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_citation_and_readme_say_title_author_and_licence(bundled: Path) -> None:
    told = yaml.safe_load((bundled / "CITATION.cff").read_text())
    assert (told["cff-version"], told["title"], told["authors"]) == ("1.2.0", "A toy study", [{"name": "Ada Example"}])
    assert "Licence of the data: CC0-1.0." in (bundled / "README.md").read_text()


@pytest.mark.skipif(not HAS_ROCRATE, reason="rocrate is not installed")
def test_the_crate_describes_every_file_with_its_hash(bundled: Path) -> None:
    graph = {each["@id"]: each for each in json.loads((bundled / "ro-crate-metadata.json").read_text())["@graph"]}
    root = graph["./"]
    assert (root["name"], root["license"], root["datePublished"]) == (
        "A toy study",
        "CC0-1.0",
        "2026-01-02T03:04:05+00:00",
    )
    table = graph["report/table2.csv"]
    assert table["sha256"] == hashlib.sha256((bundled / "report/table2.csv").read_bytes()).hexdigest()
    named = {part["@id"] for part in root["hasPart"]}
    files = {path.relative_to(bundled).as_posix() for path in bundled.rglob("*") if path.is_file()}
    assert files - named == {"checksums.sha256", "ro-crate-metadata.json"}
    assert len([name for name in named if name.endswith("predictions.parquet")]) == 6  # one name, six files


def test_without_its_package_a_crate_is_refused_with_what_to_install(
    sound_run: Run, tmp_path: Path, no_report: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rocrate.rocrate", None)
    with pytest.raises(UsageError, match=r"pip install 'milbench\[bundle\]'"):
        bundle(sound_run, tmp_path / "toy", wishes(crate=True))
    assert list(tmp_path.iterdir()) == []


def test_weights_go_along_only_if_asked_for(sound_run: Run, tmp_path: Path, no_report: None) -> None:
    heavy = make_bundle(sound_run, tmp_path / "toy", weights=True)
    assert len(list(heavy.glob("runs/toy/trials/*/*/*/*/model.safetensors"))) == 6
    assert open_run(heavy / "runs/toy").damaged() == {}


def test_a_failed_trial_travels_without_traceback_and_is_known_to_be_missing(tmp_path: Path, no_report: None) -> None:
    run = make_sound_run(tmp_path / "toy", models=("amil",), failed=True)
    plain, hidden = (
        make_bundle(run, tmp_path / name, **more) for name, more in (("b", {}), ("c", {"pseudonyms": SALT}))
    )
    assert open_run(plain / "runs/toy").failures() == [
        {
            "id": "toy/dsmil/TP53/fold0-seed42-0123abcd",
            "type": "ValueError",
            "message": f"cannot read {slide(1)}.pt on a-machine",
        }
    ]
    assert files_with(plain, [HOST, FOLDER]) == files_with(hidden, [HOST, FOLDER, *IDS]) == []
    for each in (plain, hidden):
        with opened(each) as (_, header, travelling):
            assert header.missing == ("toy/dsmil/TP53/fold0-seed42",)
            assert list(differences(travelling, "", header.missing)) == []


def test_a_name_that_must_not_travel_stops_the_bundle(sound_run: Run, tmp_path: Path, no_report: None) -> None:
    with pytest.raises(StoreError, match=f"would hold '{patient(3)}'"):
        bundle(sound_run, tmp_path / "toy", wishes(pseudonyms=SALT, title=f"All but {patient(3)}"))
    assert list(tmp_path.iterdir()) == []


def test_what_lies_at_the_place_already_is_left_as_it_is(sound_run: Run, tmp_path: Path) -> None:
    (tmp_path / "toy.zip").write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        bundle(sound_run, tmp_path / "toy.zip", wishes())
    with pytest.raises(StoreError, match="inside the run folder"):
        bundle(sound_run, sound_run.path / "toy.zip", wishes())


def test_a_damaged_trial_is_refused_by_name(tmp_path: Path) -> None:
    run = make_sound_run(tmp_path / "toy", models=("amil",))
    next(run.path.glob("trials/*/*/*/*/history.parquet")).write_bytes(b"")
    with pytest.raises(StoreError, match=r"1 trial\(s\) of .* are damaged, first toy/amil"):
        bundle(run, tmp_path / "b", wishes())


@pytest.mark.parametrize(("words", "rest"), [
    ("/home/me/labels.csv", "labels.csv"), ("C:\\data\\me\\labels.csv", "labels.csv"), ("~/data/x", "x"), ("../me/x", "x"),
    ("read '/mnt/a b' and /data/me/x.csv, twice", "read 'a b' and x.csv, twice"), ("file:///home/me/x", "x"),
    ("--cohort=/home/me/toy --folds 2", "--cohort=toy --folds 2"), ("see https://example.org/a/b", "see https://example.org/a/b"),
    ("and/or/not", "and/or/not"), ("on gpu-node-7.", "on a-machine."), ("gpu-node-70", "gpu-node-70"),
])  # fmt: skip
def test_paths_and_hosts_are_taken_out_of_texts(words: str, rest: str) -> None:
    assert Scrubber((HOST,)).text(words) == rest


def test_paths_are_taken_out_of_what_feature_files_tell_of_their_making() -> None:
    told = {"features": {"encoder": {"/home/me/a/uni.pt": 2, "/mnt/b/uni.pt": 1}, "mpp": {"0.5": 3}}}
    assert Scrubber().facts(told) == {"features": {"encoder": {"uni.pt": 3}, "mpp": {"0.5": 3}}}


def test_the_salt_is_made_once_for_its_owner_alone_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    first = salt_in(tmp_path / "toy.salt")
    assert salt_in(tmp_path / "toy.salt").id("P1") == first.id("P1") != "P1"
    assert (tmp_path / "toy.salt").stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").write_text("not a salt")
    with pytest.raises(UsageError, match="holds no salt"):
        salt_in(tmp_path / "other")


def test_the_command_keeps_the_salt_beside_the_bundle(
    sound_run: Run, tmp_path: Path, no_report: None, milbench_here: Milbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milbench.bundles.bundle.write_crate", lambda *_: None)
    done = milbench_here("bundle", str(sound_run.path), "--out", "out/toy.zip", "--anonymise", "--draws", "200")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["toy.salt", "toy.zip"]
    assert "licence of the data is not declared" in done.stderr
    refused = milbench_here("bundle", str(sound_run.path), "--salt", "x")
    assert refused.returncode == 2


@pytest.mark.slow
def test_figures_and_the_whole_bundle_hold_no_id_and_are_the_same_bytes_twice(sound_run: Run, tmp_path: Path) -> None:
    whole = make_bundle(sound_run, tmp_path / "a", pseudonyms=SALT)
    again = make_bundle(sound_run, tmp_path / "b", pseudonyms=SALT)
    assert list(whole.glob("report/*.pdf"))
    assert files_with(whole, [*IDS, HOST, FOLDER, str(tmp_path), str(Path.home())]) == []
    assert (whole / "checksums.sha256").read_bytes() == (again / "checksums.sha256").read_bytes()
    assert verify(whole).differences == ()
