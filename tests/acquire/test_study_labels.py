"""`milbench data labels`, as a user gives it, against a server on this machine."""

from pathlib import Path

import pytest
from commands_for_tests import Milbench
from fake_server import STUDY, FakeServer, gdc_slide, mutation

from milbench.acquire import cbioportal, gdc, released
from milbench.acquire.build import projects_of
from milbench.errors import UsageError
from milbench.labels import read_labels


def flags(server: FakeServer) -> list[str]:
    urls = ["--cbioportal-url", f"{server.url}/api", "--gdc-url", server.url]
    return ["--study", STUDY, "--timeout", "0.5", "--retries", "2", "--out", "out", *urls]


def labels(path: Path, gene: str) -> dict[str, float | None]:
    table = read_labels(path / "out" / "labels.csv").slides
    values = dict(zip(table["patient_id"].str[-1], table[gene], strict=True))
    return {patient: None if value != value else value for patient, value in values.items()}


def test_a_patient_who_was_not_sequenced_is_unknown_and_not_wild_type(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53", "PIK3CA")
    assert result.returncode == 0, result.stderr
    assert labels(tmp_path, "TP53") == {"1": 1, "2": 0, "3": 1, "4": 0, "5": 0, "6": None, "7": None}
    assert "2 slides of patients without calls (blank cells): TCGA-AA-0006" in result.stdout


def test_a_metastasis_does_not_count_for_its_patient(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    result = milbench_here("data", "labels", *flags(server), "--genes", "PIK3CA")
    assert labels(tmp_path, "PIK3CA")["1"] == 0
    assert "1 sequenced samples that are no primary tumour: TCGA-AA-0001-06" in result.stdout


def test_a_slide_of_a_metastasis_has_its_patients_label_and_is_reported(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    server.slides = [gdc_slide(1), gdc_slide(1, 2)]
    server.slides[1]["file_name"] = server.slides[1]["file_name"].replace("-01Z-", "-06Z-")
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert "1 slides of another sample, labelled as their patient is: TCGA-AA-0001-06Z" in result.stdout
    assert list(read_labels(tmp_path / "out" / "labels.csv").slides["TP53"]) == [1, 1]


def test_the_report_lists_the_classes_that_counted(server: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    server.mutations[STUDY].append(mutation("TCGA-AA-0004-01", 5290, "Silent", 1))
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53", "PIK3CA")
    assert "Missense_Mutation 2, Frame_Shift_Del 1, Nonsense_Mutation 1, Silent 1" in result.stdout
    assert (tmp_path / "out" / "report.txt").read_text().strip() in result.stdout


def test_the_manifest_is_the_one_that_gdc_client_takes(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    lines = (tmp_path / "out" / "manifest.txt").read_text().splitlines()
    assert lines[0] == "id\tfilename\tmd5\tsize\tstate"
    assert lines[1].split("\t")[1:] == ["TCGA-AA-0001-01Z-00-DX1.00000001-0000.svs", "0" * 32, "1000001", "released"]
    assert len(lines) == 8


def test_top_genes_ranks_patients_and_not_samples(server: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    server.mutations[STUDY] += [mutation(f"TCGA-AA-000{n}-06", 5290, "Missense_Mutation", 1) for n in range(2, 6)]
    result = milbench_here("data", "labels", *flags(server), "--top-genes", "1")
    assert result.returncode == 0, result.stderr
    assert list(read_labels(tmp_path / "out" / "labels.csv").slides)[2:] == ["TP53"]


def test_pages_are_sorted_and_a_repeated_mutation_counts_once(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cbioportal, "PAGE", 2)
    server.mutations[STUDY] += server.mutations[STUDY][-1:]
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53", "PIK3CA")
    assert "Frame_Shift_Del 1" in result.stdout
    assert sum("pageNumber=2" in path for path in server.asked) == 1
    assert labels(tmp_path, "TP53")["3"] == 1


def test_slides_come_in_pages_and_in_order(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdc.diagnostic_slides, "__kwdefaults__", {"page": 3})
    server.slides = [gdc_slide(n) for n in (7, 1, 5, 2, 6, 3, 4)]
    milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    table = read_labels(tmp_path / "out" / "labels.csv").slides
    assert list(table["slide_id"]) == sorted(table["slide_id"])
    assert server.asked.count("/files") == 3


def test_a_row_that_two_pages_repeat_counts_once(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdc.diagnostic_slides, "__kwdefaults__", {"page": 3})
    server.page_shift = -1
    milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert len(read_labels(tmp_path / "out" / "labels.csv").slides) == 7


def test_a_row_that_no_page_shows_is_refused_rather_than_left_out(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdc.diagnostic_slides, "__kwdefaults__", {"page": 3})
    server.page_shift = 1
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert result.returncode == 2
    assert "named 7 diagnostic slides of TCGA-TOY and listed 6 different ones" in result.stderr
    assert not (tmp_path / "out" / "labels.csv").exists()
    server.page_shift = 0
    assert milbench_here("data", "labels", *flags(server), "--genes", "TP53", "--refresh").returncode == 0


def test_a_stopped_command_goes_on_with_what_it_has(server: FakeServer, milbench_here: Milbench) -> None:
    server.fail("/files", *[500] * 3)
    stopped = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert stopped.returncode == 2
    assert "/files answered 500: made to fail with 500" in stopped.stderr
    server.asked.clear()
    assert milbench_here("data", "labels", *flags(server), "--genes", "TP53").returncode == 0
    assert server.asked == ["/files"]
    server.asked.clear()
    milbench_here("data", "labels", *flags(server), "--genes", "TP53", "--refresh")
    assert len(server.asked) == 6


@pytest.mark.parametrize("failure", [429, 500, "drop", "slow"])
def test_one_failure_of_either_server_is_survived(
    server: FakeServer, milbench_here: Milbench, failure: int | str
) -> None:
    server.fail("mutations/fetch", failure)
    server.fail("/files", failure)
    assert milbench_here("data", "labels", *flags(server), "--genes", "TP53").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genes", "TP54"], "unknown gene 'TP54'. Did you mean 'TP53'?"),
        (["--genes", "TP53", "--study", "nope_tcga"], "404: Study not found: nope_tcga"),
        (["--genes", "TP53", "--study", "msk_impact"], "names no TCGA project"),
        (["--genes", "TP53", "--study", "../../toy_tcga"], "'../../toy_tcga' is no study of cBioPortal"),
        (["--genes", "TP53", "--study", "toy_tcga?x=1"], "is no study of cBioPortal"),
        (["--genes", "TP53", "--timeout", "1e300"], "--timeout takes seconds above 0, at most 3600"),
        (["--genes", "TP53", "--out", ""], "argument --out: an empty path names no file or folder"),
        (["--genes", "TP53", "--project", "TCGA-NONE"], "no diagnostic slide of TCGA-NONE"),
        (["--top-genes", "0"], "--top-genes takes a number from 1 up"),
        (["--genes", "TP53", "--compare", "nowhere.csv"], "nowhere.csv does not exist"),
        ([], "nothing was named to make labels of. Give --genes, --top-genes or --endpoints."),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    server: FakeServer, milbench_here: Milbench, words: list[str], message: str
) -> None:
    result = milbench_here("data", "labels", *flags(server), *words)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize("answer", [b"<html>log in</html>", b'{"oops": 1}', b"[1, 2]", b'[{"a": 1}]'])
def test_an_answer_of_another_server_is_told(server: FakeServer, milbench_here: Milbench, answer: bytes) -> None:
    server.fail("/genes/fetch", answer)
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert result.returncode == 2
    assert "/genes/fetch" in result.stderr
    server.failures.clear()
    again = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert again.returncode == 0, "an answer that cannot be used was kept"


@pytest.mark.parametrize("where", ["molecular-profiles", "sample-lists", "sample-ids", "mutations/fetch", "/files"])
@pytest.mark.parametrize("answer", [b'{"oops": 1}', b"[1, 2]", b"null"])
def test_every_route_refuses_an_answer_of_another_shape(
    server: FakeServer, milbench_here: Milbench, where: str, answer: bytes
) -> None:
    server.fail(where, answer)
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert result.returncode == 2
    assert where in result.stderr


def test_an_unknown_gene_is_told_even_if_no_near_match_can_be_had(server: FakeServer, milbench_here: Milbench) -> None:
    server.fail("mutated-genes", 404)
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP54")
    assert result.returncode == 2
    assert "unknown gene 'TP54'. cBioPortal goes by current HUGO symbols" in result.stderr


def test_disagreement_with_a_released_table_is_counted(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    slides = [slide["file_name"].removesuffix(".svs") for slide in server.slides]
    there = [1, 1, 0, 0, 0, 1, 1]  # patients 2 and 3 differ; 6 and 7 are unknown here
    rows = [f"{slide[:12]},{slide[:23]}.other-uuid,{label}" for slide, label in zip(slides, there, strict=True)]
    (tmp_path / "released.csv").write_text("\n".join(["case_id,slide_id,TP53", *rows]))
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53", "--compare", "released.csv")
    line = next(line for line in result.stdout.splitlines()[::-1] if line.strip().startswith("TP53"))
    assert line.split() == ["TP53", "3", "2", "1", "1"]


def test_the_fetched_table_of_the_same_study_is_compared_with_unasked(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "TABLES", (released.Released("toy", 1, "", 1, (STUDY,)),))
    table = tmp_path / "data" / "tcga-toy" / "labels.csv"
    table.parent.mkdir(parents=True)
    table.write_text(f"case_id,slide_id,TP53\nTCGA-AA-0001,{gdc_slide(1)['file_name'].removesuffix('.svs')},1\n")
    monkeypatch.setenv("MILBENCH_DATA", "data")
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert "with data/tcga-toy/labels.csv" in result.stdout
    assert result.stdout.split("tcga-toy/labels.csv")[1].split()[:3] == ["TP53", "1", "0"]


def test_the_projects_follow_from_the_studies() -> None:
    assert projects_of(["gbm_tcga_pan_can_atlas_2018", "lgg_tcga_pan_can_atlas_2018"]) == ["TCGA-GBM", "TCGA-LGG"]
    assert projects_of(["coadread_tcga_pan_can_atlas_2018"]) == ["TCGA-COAD", "TCGA-READ"]
    with pytest.raises(UsageError, match="--project"):
        projects_of(["msk_impact_2017"])


def test_a_label_table_of_the_users_own_is_left_as_it_is(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.csv").write_text("mine")
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert result.returncode == 2
    assert "labels.csv was not made by this command, and is left as it is" in result.stderr
    assert (tmp_path / "out" / "labels.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["case_id", "slide_id"])
def test_no_gene_is_called_as_a_column_of_ids(server: FakeServer, milbench_here: Milbench, name: str) -> None:
    server.genes[name] = 1
    result = milbench_here("data", "labels", *flags(server), "--genes", name)
    assert result.returncode == 2
    assert f"a gene called '{name}' would have the name of a column of ids" in result.stderr


def test_two_genes_of_one_number_are_refused_rather_than_one_left_without_mutations(
    server: FakeServer, milbench_here: Milbench
) -> None:
    server.genes["P53"] = server.genes["TP53"]
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53", "P53")
    assert result.returncode == 2
    assert "gives two of TP53, P53 one number" in result.stderr


@pytest.mark.parametrize(
    ("name", "told"), [("same.svs", "7 slides called 'same'"), ("../x.svs", "a slide called '../x'")]
)
def test_slides_that_no_feature_file_could_belong_to_are_refused(
    server: FakeServer, milbench_here: Milbench, name: str, told: str
) -> None:
    for slide in server.slides if name == "same.svs" else server.slides[:1]:
        slide["file_name"] = name
    result = milbench_here("data", "labels", *flags(server), "--genes", "TP53")
    assert result.returncode == 2
    assert told in result.stderr


def test_a_password_in_an_address_stays_out_of_messages_and_reports(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    secret = server.url.replace("http://", "http://me:s3cret@")
    words = ["--study", STUDY, "--out", "out", "--genes", "TP53", "--retries", "0", "--gdc-url", secret]
    good = milbench_here("data", "labels", *words, "--cbioportal-url", f"{secret}/api")
    bad = milbench_here("data", "labels", *words, "--cbioportal-url", f"{secret}/nowhere", "--refresh")
    assert (good.returncode, bad.returncode) == (0, 2)
    told = good.stdout + bad.stderr + (tmp_path / "out" / "report.txt").read_text()
    assert "me:***@" in told
    assert "s3cret" not in told
