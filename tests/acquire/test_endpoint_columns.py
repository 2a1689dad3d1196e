"""`milbench data labels --endpoints`, as a user gives it, against a server on this machine."""

from pathlib import Path

import pytest
import yaml
from commands_for_tests import Milbench
from fake_server import STUDY, FakeServer, of_patient, of_sample

from milbench.acquire import clinical
from milbench.cohorts.cohort_file import cohort_file
from milbench.endpoints.endpoint import DAYS_OF_A_MONTH, Endpoint
from milbench.labels import LabelTable

MONTH = DAYS_OF_A_MONTH


def flags(server: FakeServer) -> list[str]:
    urls = ["--cbioportal-url", f"{server.url}/api", "--gdc-url", server.url]
    return ["--study", STUDY, "--timeout", "0.5", "--retries", "2", "--out", "out", "--endpoints", *urls]


@pytest.fixture
def told(server: FakeServer) -> FakeServer:
    """Seven patients with slides; the eighth has none."""
    server.attributes = {"OS_MONTHS": True, "OS_STATUS": True, "PFS_MONTHS": True, "PFS_STATUS": True, "DSS_MONTHS": True,
                         "SUBTYPE": True, "GRADE": False, "AJCC_PATHOLOGIC_TUMOR_STAGE": True, "AGE": True}  # fmt: skip
    months = {1: "10.5", 2: "24", 3: "0", 4: "-1", 5: "36.0", 6: "[Not Available]", 8: "99"}
    states = {1: "1:DECEASED", 2: "0:LIVING", 3: "0:LIVING", 4: "1:DECEASED", 6: "0:LIVING", 8: "1:DECEASED"}
    server.clinical = [
        *(of_patient(n, "OS_MONTHS", value) for n, value in months.items()),
        *(of_patient(n, "OS_STATUS", value) for n, value in states.items()),
        *(of_patient(n, "PFS_MONTHS", f"{n}") for n in range(1, 8)),
        *(of_patient(n, "PFS_STATUS", "1:PROGRESSION" if n % 2 else "0:CENSORED") for n in range(1, 8)),
        of_patient(7, "PFS_STATUS", "0:CENSORED"),
        *(of_patient(n, "SUBTYPE", f"TOY_{'ABC'[n % 3]}") for n in range(1, 7)),
        of_patient(7, "SUBTYPE", "NA"),
        *(of_sample(n, "GRADE", f"G{1 + n % 3}") for n in range(1, 6)),
        of_sample(1, "GRADE", "G4", "06"),
        of_sample(6, "GRADE", "High Grade"),
        of_sample(5, "GRADE", "G1", "02"),
        *(of_patient(n, "AJCC_PATHOLOGIC_TUMOR_STAGE", stage)
          for n, stage in enumerate(("STAGE IA", "STAGE IIB", "STAGE IIIC", "STAGE IV", "STAGE X", "STAGE I"), start=1)),
    ]  # fmt: skip
    return server


def read(folder: Path) -> LabelTable:
    """The labels as a cohort.yaml with the written tasks reads them."""
    tasks = yaml.safe_load((folder / "out" / "tasks.yaml").read_text())["tasks"]
    said = {"name": "toy", "labels": "out/labels.csv", "features": ".", "tasks": tasks}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    return cohort_file(folder / "cohort.yaml").label_table()


def labels(table: LabelTable, task: str) -> dict[str, float | None]:
    values = dict(zip(table.slides["patient_id"].str[-1], table.slides[task], strict=True))
    return {patient: None if value != value else value for patient, value in values.items()}


def test_the_written_tasks_read_the_written_table(told: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    result = milbench_here("data", "labels", *flags(told))
    assert result.returncode == 0, result.stderr
    table = read(tmp_path)
    assert labels(table, "os") == {
        "1": pytest.approx(10.5 * MONTH), "2": pytest.approx(-24 * MONTH), **dict.fromkeys("34567")
    }  # fmt: skip
    assert labels(table, "subtype") == {"1": 1, "2": 2, "3": 0, "4": 1, "5": 2, "6": 0, "7": None}
    assert labels(table, "stage") == {"1": 0, "2": 1, "3": 2, "4": 3, "5": None, "6": 0, "7": None}
    assert table.endpoints == {
        "os": Endpoint("survival"),
        "pfs": Endpoint("survival"),
        "subtype": Endpoint("multiclass", ("TOY_A", "TOY_B", "TOY_C")),
        "grade": Endpoint("ordinal", ("G1", "G2", "G3")),
        "stage": Endpoint("ordinal", ("I", "II", "III", "IV")),
    }


def test_cells_stand_as_the_portal_has_them(told: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    milbench_here("data", "labels", *flags(told))
    lines = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    assert lines[0] == "case_id,slide_id,os_months,os_status,pfs_months,pfs_status,subtype,grade,stage"
    cells = {line.split(",")[0][-1]: line.split(",")[2:] for line in lines[1:]}
    assert cells["1"] == ["10.5", "1:DECEASED", "1", "1:PROGRESSION", "TOY_B", "G2", "I"]
    assert cells["3"][:2] == ["0", "0:LIVING"]
    assert cells["6"][:2] == ["", "0:LIVING"]


def test_whatever_cannot_be_used_is_counted_and_told(told: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    said = milbench_here("data", "labels", *flags(told)).stdout
    for line in (
        "os        2 patients (0:LIVING 1, 1:DECEASED 1); 2 patients with a time of 0 or less (written, and read as "
        "unknown); 1 patients with a time and no status; 1 patients with a status and no time; 1 patients whose time is no "
        "number (blank)",
        "dss       left out: no study has DSS_STATUS",
        "dfs       left out: no study has DFS_MONTHS or DFS_STATUS",
        "1 patients whose status contradicts itself (blank)",
        "subtype   6 patients by SUBTYPE (TOY_A 2, TOY_B 2, TOY_C 2); 1 patients without a class, such as NA (blank)",
        "1 patients without a class, such as High Grade (blank)",
        "1 patients without a class, such as STAGE X (blank)",
    ):
        assert line in said
    assert "copy tasks.yaml into the cohort.yaml" in said
    assert (tmp_path / "out" / "report.txt").read_text().strip() in said


def test_a_metastasis_grades_nobody_and_a_contradiction_is_blank(
    told: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    told.clinical.append(of_sample(4, "GRADE", "G3"))
    milbench_here("data", "labels", *flags(told))
    assert labels(read(tmp_path), "grade") == {"1": 1, "2": 2, "3": 0, "4": None, "5": 2, "6": None, "7": None}


def test_genes_and_endpoints_make_one_table(told: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    result = milbench_here("data", "labels", *flags(told), "--genes", "TP53")
    assert result.returncode == 0, result.stderr
    table = read(tmp_path)
    assert labels(table, "TP53") == {"1": 1, "2": 0, "3": 1, "4": 0, "5": 0, "6": None, "7": None}
    assert labels(table, "pfs")["1"] == pytest.approx(MONTH)
    assert "Mutated     slides and patients per gene" in result.stdout


def test_pages_are_read_to_their_end(
    told: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    milbench_here("data", "labels", *flags(told))
    whole = (tmp_path / "out" / "labels.csv").read_bytes()
    monkeypatch.setattr(clinical, "PAGE", 2)
    milbench_here("data", "labels", *flags(told), "--refresh")
    assert (tmp_path / "out" / "labels.csv").read_bytes() == whole
    assert sum("attributeId=OS_MONTHS" in path for path in told.asked) == 1 + 4


def test_a_study_without_any_endpoint_is_refused(server: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    server.attributes = {"AGE": True}
    result = milbench_here("data", "labels", *flags(server))
    assert result.returncode == 2
    assert "no survival, subtype, grade or stage can be learned from" in result.stderr
    assert "stage     left out: no study has AJCC_PATHOLOGIC_TUMOR_STAGE or TUMOR_STAGE_2009" in result.stderr
    assert not (tmp_path / "out" / "labels.csv").exists()


@pytest.mark.parametrize("where", ["clinical-attributes", "clinical-data"])
@pytest.mark.parametrize("answer", [b'{"oops": 1}', b"[1, 2]", b"null", b'[{"clinicalAttributeId": "OS_MONTHS"}]'])
def test_an_answer_of_another_shape_is_refused_and_not_kept(
    told: FakeServer, milbench_here: Milbench, where: str, answer: bytes
) -> None:
    told.fail(where, answer)
    result = milbench_here("data", "labels", *flags(told))
    assert result.returncode == 2
    assert where in result.stderr
    told.failures.clear()
    assert milbench_here("data", "labels", *flags(told)).returncode == 0


@pytest.mark.parametrize("failure", [429, 500, "drop", "slow"])
def test_one_failure_is_survived(told: FakeServer, milbench_here: Milbench, failure: int | str) -> None:
    told.fail("clinical-data", failure)
    assert milbench_here("data", "labels", *flags(told)).returncode == 0


def test_a_portal_that_keeps_failing_is_told(told: FakeServer, milbench_here: Milbench) -> None:
    told.fail("clinical-data", *[500] * 3)
    result = milbench_here("data", "labels", *flags(told))
    assert result.returncode == 2
    assert "made to fail with 500" in result.stderr


def test_an_unknown_study_is_told(told: FakeServer, milbench_here: Milbench) -> None:
    words = [word.replace(STUDY, "nope_tcga") for word in flags(told)]
    result = milbench_here("data", "labels", *words)
    assert result.returncode == 2
    assert "404: Study not found: nope_tcga" in result.stderr
