"""Endpoints of the TCGA cohorts: what is packaged, how it joins, and that nothing changes for who does not ask."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from places import ROOT, SHARED
from rich.console import Console
from tcga_for_tests import GENES, make_crc

from milbench.cohorts.cohort import Cohort, read_cohort
from milbench.cohorts.optional import OptionalTask
from milbench.datasets import all_datasets, dataset
from milbench.datasets.tcga import COHORTS, tcga_file
from milbench.datasets.tcga_endpoints import QUESTIONS, all_rows, labels_of, names_of, table_of
from milbench.errors import UsageError
from milbench.labels.stage import stage_of
from milbench.runs.benchmark import run_benchmark
from milbench.runs.changes import changes_of
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.progress import Progress
from milbench.splits import make_split
from milbench.store.question import Asked, Question
from milbench.store.run import open_run

SOURCE = SHARED / "endpoints" / "data"
CRC = next(cohort for cohort in COHORTS if cohort.short == "crc")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_crc(folder)
    return folder


@pytest.fixture(scope="module")
def crc(root: Path) -> Cohort:
    return dataset("tcga-crc").load(root, allow_missing=False)


def planned(root: Path, *tasks: str, models: tuple[str, ...] = ("mean_pooling", "m4"), **more: Any) -> Benchmark:
    flags = {"datasets": ["tcga-crc"], "data_root": str(root), "models": list(models), "tasks": list(tasks)}
    return prepare(make_config(None, [], {**flags, "folds": [0], **more}))


# ---- what is packaged --------------------------------------------------------------------------------


@pytest.mark.parametrize("short", QUESTIONS)
def test_each_cohort_has_the_slides_of_the_study_and_no_patient_contradicts_itself(short: str) -> None:
    cohort, table = next(c for c in COHORTS if c.short == short), table_of(short)
    assert (len(table), table["case_id"].nunique()) == (cohort.n_slides, cohort.n_patients)
    assert not table["slide_id"].duplicated().any()
    assert len(table.drop(columns="slide_id").drop_duplicates()) == cohort.n_patients


@pytest.mark.realdata
@pytest.mark.skipif(not SOURCE.exists(), reason="the tables of endpoints are not beside the checkout")
@pytest.mark.parametrize("short", QUESTIONS)
def test_the_packaged_tables_are_those_that_were_joined(short: str) -> None:
    packed = ROOT / "milbench" / "datasets" / "tcga_tables" / f"{short}.csv.gz"
    theirs = SOURCE / f"m4_{short}_endpoints.csv.gz"
    assert hashlib.sha256(packed.read_bytes()).digest() == hashlib.sha256(theirs.read_bytes()).digest()


INDEXED = {"os": "CDR OS", "dss": "CDR DSS", "dfi": "CDR DFI", "pfi": "CDR PFI", "MSI": "GI msi", "CMS": "GI cms",
           "subtype": "GI molecular_subtype", "side": "GI side", "purity": "GI purity", "leukocytes": "GI leukocyte_fraction",
           "mutation_density": "GI mutation_density", "PAM50": "MAKO PAM50_Subtype_4x",
           "ROR-P": "MAKO ror_p_score_div100", "ER": "slideflow ER"}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.skipif(not SOURCE.exists(), reason="the tables of endpoints are not beside the checkout")
def test_slides_patients_and_events_are_those_that_the_joins_counted() -> None:
    joins = json.loads((SOURCE / "index.json").read_text())["joins with the five M4 cohorts"]
    checked = [row for row in all_rows() if row.endpoint in INDEXED]
    for row in checked:
        expected = joins[row.cohort.removeprefix("tcga-")][INDEXED[row.endpoint]]
        assert (row.slides, row.patients) == (expected["slides"], expected["patients"]), row
        if row.kind == "survival":
            assert row.counts == f"{expected['events (patients)']} events"
    assert len(checked) == 4 * len(QUESTIONS) + 10


def test_labels_are_the_cells_of_the_table_read_by_hand() -> None:
    """An oracle that knows nothing of the label reader."""
    table, known = table_of("crc").drop_duplicates("case_id").set_index("case_id"), labels_of("crc")
    days = pd.to_numeric(table["os_days"])
    signed = days.where(table["os_event"] == "1.0", -days)
    pd.testing.assert_series_equal(known.by_patient["os"], signed, check_names=False)
    places = table["msi"].map({"MSS": 0.0, "MSI-L": 1.0, "MSI-H": 2.0})
    pd.testing.assert_series_equal(known.by_patient["MSI"], places, check_names=False)
    density = pd.to_numeric(table["mutation_density"])
    pd.testing.assert_series_equal(known.by_patient["mutation_density"], density, check_names=False)
    assert known.endpoints["mutation_density"].transform == "log1p"
    right = table["side"].map({"Left": 0.0, "Right": 1.0})
    pd.testing.assert_series_equal(known.by_patient["side"], right, check_names=False)


def test_an_event_of_recurrence_is_an_event_although_the_column_speaks_of_censoring() -> None:
    table, known = table_of("brca").drop_duplicates("case_id"), labels_of("brca").by_patient["recurrence"]
    years = pd.to_numeric(table["recurrence_years_censored_10_years"])
    seen = (table["recurrence_event_censored_10_years"] == "1.0") & (years > 0)
    assert int((known > 0).sum()) == int(seen.sum()) > 0
    assert known.abs().max() == pytest.approx(10 * 365.25)


@pytest.mark.parametrize(
    ("cell", "stage"),
    [("Stage IIIC2", "III"), ("STAGE IVA", "IV"), ("IIB", "II"), ("Stage I", "I"), ("Stage X", ""), ("0", ""),
     ("", ""), ("I/II NOS", ""), ("IS", ""), ("Stage IVIV", "")],
)  # fmt: skip
def test_letters_behind_a_stage_are_left_out(cell: str, stage: str) -> None:
    assert stage_of(cell) == stage


def test_no_endpoint_has_the_name_of_a_gene() -> None:
    for entry in all_datasets().values():
        assert not set(entry.tasks) & set(entry.optional_tasks)


def test_the_document_shows_the_table_that_the_command_prints() -> None:
    text = (ROOT / "docs" / "tcga.md").read_text()
    lines = [f"| {' | '.join(map(str, row))} |" for row in all_rows()]
    shown = [line for line in text.splitlines() if line in set(lines)]
    assert shown == lines


# ---- how it joins ------------------------------------------------------------------------------------


def test_a_slide_has_the_label_of_its_patient_and_none_if_the_patient_is_not_known(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tcga-crc"
    folder.mkdir()
    (folder / "features").symlink_to(root / "tcga-crc" / "features")
    table = pd.read_csv(root / "tcga-crc" / "labels.csv")
    stranger, other = table["case_id"].iloc[0], table["case_id"].iloc[1]
    table.loc[0, "case_id"] = "TCGA-ZZ-0000"
    table.to_csv(folder / "labels.csv", index=False)
    slides = dataset("tcga-crc").load(tmp_path, allow_missing=False).slides.set_index("patient_id")
    assert np.isnan(slides.loc["TCGA-ZZ-0000", "MSI"])
    assert not np.isnan(labels_of("crc").by_patient.loc[stranger, "MSI"])
    assert slides.loc[other, "os"] == labels_of("crc").by_patient.loc[other, "os"]


# ---- nothing changes for who does not ask ------------------------------------------------------------


def test_without_tasks_the_ten_genes_run_as_if_there_were_no_endpoints(root: Path, crc: Cohort) -> None:
    plain = read_cohort(tcga_file(CRC, root))
    assert crc.tasks == GENES == plain.tasks
    assert crc.fingerprint == plain.fingerprint
    benchmark = planned(root)
    assert benchmark.entries[0].split.sha256 == make_split(plain.slides, plain.tasks, "m4").sha256
    assert {task for trial in benchmark.trials for task in trial.tasks} == set(GENES)
    assert all("labels_sha256" not in trial.identity() for trial in benchmark.trials)


@pytest.mark.parametrize("words", [("all",), ("*",), ("*", "MSI")])
def test_genes_beside_endpoints_are_the_same_trials(root: Path, words: tuple[str, ...]) -> None:
    alone = {trial.key for trial in planned(root, models=("mean_pooling",)).trials}
    beside = planned(root, *words, models=("mean_pooling",)).trials
    assert {trial.key for trial in beside if trial.tasks[0] in GENES} == alone
    assert {trial.tasks[0] for trial in beside} - set(GENES) == ({"MSI"} if "MSI" in words else set())


def test_endpoints_join_by_name_and_as_a_group(root: Path) -> None:
    named = planned(root, "os,MSI", "CMS")
    assert named.entries[0].cohort.tasks == ("os", "MSI", "CMS")
    assert any(note.startswith("MSI: multiclass, known for") for note in named.entries[0].notes)
    assert planned(root, "endpoints", models=("mean_pooling",)).entries[0].cohort.tasks == names_of("crc")
    with pytest.raises(UsageError, match=r"unknown task 'MSS'\. Did you mean 'MSI'"):
        planned(root, "MSS")


def test_the_labels_of_an_endpoint_are_in_the_identity_of_trials_that_learn_it(root: Path, crc: Cohort) -> None:
    multi, single = sorted(planned(root, "side", "TP53").trials, key=lambda trial: -len(trial.tasks))[:2]
    expected = {"side": crc.optional["side"].labels_sha256}
    assert multi.identity()["labels_sha256"] == expected
    other = replace(multi, labels_sha256={"side": "0" * 64})
    assert other.key != multi.key
    assert other.stack_key == multi.stack_key
    assert single.model == "mean_pooling"


def test_other_labels_of_an_endpoint_make_its_trials_stale_and_no_others() -> None:
    asked = Asked(Question("f", "s", "none", optional_labels_sha256={"MSI": "new"}))
    info = {"fingerprint": "f", "split_sha256": "s", "feature_scaling": "none"}
    assert asked.differences({**info, "labels_sha256": {"MSI": "old"}}) == ("other labels",)
    assert asked.differences({**info, "labels_sha256": {"MSI": "new", "CMS": "any"}}) == ()
    assert asked.differences(info) == ()


def test_a_question_without_endpoints_is_written_as_before() -> None:
    assert set(Question("f", "s", "none").as_dict()) == {
        "fingerprint", "split_sha256", "feature_scaling", "labels_sha256", "models"
    }  # fmt: skip


def test_a_hash_of_labels_follows_labels_and_the_kind(crc: Cohort) -> None:
    hashes = {task.labels_sha256 for task in crc.optional.values()}
    assert len(hashes) == len(crc.optional)
    assert all(isinstance(task, OptionalTask) and len(task.labels_sha256) == 64 for task in crc.optional.values())


def _with_other_labels_of_msi(benchmark: Benchmark) -> Benchmark:
    entry = benchmark.entries[0]
    optional = {**entry.cohort.optional, "MSI": OptionalTask("0" * 64)}
    return replace(benchmark, entries=[replace(entry, cohort=replace(entry.cohort, optional=optional))])


# ---- one fold, from the command's settings to what is stored -----------------------------------------


def test_three_kinds_are_learned_and_stored_as_asked(root: Path, crc: Cohort, tmp_path: Path) -> None:
    benchmark = planned(
        root, "MSI", "CMS", "os", run=str(tmp_path / "out"), trainer={"epochs": 2}, model={"*": {"hidden": 8}},
        tracking={"enabled": False}, engine={"workers": 1},
    )  # fmt: skip
    outcome = run_benchmark(benchmark, Progress(Console(file=io.StringIO())))
    assert not outcome.failed
    assert changes_of(benchmark, will_run=True) == []
    assert "labels of MSI changed, which are part of milbench" in " ".join(
        changes_of(_with_other_labels_of_msi(benchmark), will_run=True)
    )
    answers = {"MSI": 3, "CMS": 4}
    trials = {(trial.info["model"], *trial.info["tasks"]): trial for trial in open_run(outcome.run.path).trials()}
    assert sorted(trials) == [("m4", "os", "MSI", "CMS"), *(("mean_pooling", task) for task in ("CMS", "MSI", "os"))]
    labels = crc.slides.set_index("slide_id")
    for trial in trials.values():
        table = trial.answers()
        assert trial.info["labels_sha256"] == {task: crc.optional[task].labels_sha256 for task in trial.info["tasks"]}
        for task, rows in table.groupby("task"):
            expected = labels.loc[rows["slide_id"], task].abs().to_numpy()
            assert np.array_equal(rows["target"].to_numpy(), expected, equal_nan=True)
            if task in answers:
                assert rows["answer"].nunique() == answers[task]
                assert np.allclose(rows.groupby(["role", "slide_id"])["prediction"].sum(), 1)
            else:
                assert "risk" in set(rows["answer"])
                assert np.array_equal(rows["event"] == 1, labels.loc[rows["slide_id"], "os"].to_numpy() > 0)
    facts = outcome.run.datasets["tcga-crc"]
    assert facts["fingerprint"] == crc.fingerprint
    assert facts["endpoints"]["MSI"] == {"kind": "multiclass", "classes": ["MSS", "MSI-L", "MSI-H"]}
