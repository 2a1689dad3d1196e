"""`milbench data fetch`, as a user gives it, against a server on this machine."""

import hashlib
import io
import os
import shutil
from pathlib import Path

import pytest
import torch
from commands_for_tests import Milbench
from fake_server import FakeServer
from places import SHARED

from milbench.acquire import hipt, released
from milbench.cohorts.cohort import read_cohort
from milbench.cohorts.cohort_file import CohortFile

TABLE = b"case_id,slide_id,TP53\r\n" + b"".join(b"P%d,P%d.S,%d\r\n" % (n, n, n % 2) for n in range(8))


def tensor_file(n_regions: int) -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.arange(n_regions * 192, dtype=torch.float32).reshape(n_regions, 192), buffer)
    return buffer.getvalue()


@pytest.fixture
def small_cohort(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """tcga-brca with eight slides, seven of them with features."""
    table = released.Released("brca", len(TABLE), hashlib.sha256(TABLE).hexdigest(), 8, ("brca_tcga",))
    monkeypatch.setattr(released, "TABLES", (table,))
    server.files["/labels/all_brca.csv"] = TABLE
    slides = []
    for n in range(1, 8):
        body = tensor_file(n)
        slides.append(hipt.Slide(f"P{n}.S", hashlib.sha256(body).hexdigest(), len(body)))
        server.files[f"/object/{slides[-1].sha256}"] = body
    monkeypatch.setattr(hipt, "slides_of", lambda short: slides)
    monkeypatch.setattr(hipt, "BATCH", 3)
    return server


def flags(server: FakeServer) -> list[str]:
    urls = ["--labels-url", f"{server.url}/labels/", "--lfs-url", f"{server.url}/repo.git/info/lfs"]
    return ["--data-root", "data", "--timeout", "0.5", "--retries", "2", *urls]


FEATURES = ("--features", "hipt", "--accept-licence")


def test_labels_arrive_as_they_were_released(small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path) -> None:
    small_cohort.fail("all_brca", 500)
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort))
    assert result.returncode == 0, result.stderr
    assert "labels of 8 slides, fetched" in result.stdout
    folder = tmp_path / "data" / "tcga-brca"
    assert (folder / "labels.csv").read_bytes() == TABLE
    assert "MIT License" in (folder / "labels.NOTICE").read_text()


def test_what_is_there_is_not_fetched_again(small_cohort: FakeServer, milbench_here: Milbench) -> None:
    milbench_here("data", "fetch", "tcga-*", *flags(small_cohort), *FEATURES)
    small_cohort.asked.clear()
    result = milbench_here("data", "fetch", "tcga-*", *flags(small_cohort), *FEATURES)
    assert result.returncode == 0, result.stderr
    assert "already there" in result.stdout
    assert "0 fetched, 7 already there" in result.stdout
    assert small_cohort.asked == []


def test_a_table_of_the_users_own_is_left_as_it_is(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    own = tmp_path / "data" / "tcga-brca" / "labels.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort))
    assert result.returncode == 2
    assert "is not the released all_brca.csv" in result.stderr
    assert own.read_text() == "mine"


def test_a_table_with_another_hash_is_deleted(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    small_cohort.files["/labels/all_brca.csv"] = TABLE.replace(b"1", b"0")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort))
    assert result.returncode == 2
    assert "all_brca.csv sent another file than expected" in result.stderr
    assert not list((tmp_path / "data" / "tcga-brca").iterdir())


def test_features_become_a_cohort_that_milbench_reads(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    small_cohort.fail("/object/", "truncate", 500, "drop")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort), *FEATURES)
    assert result.returncode == 0, result.stderr
    assert "1 slides have no HIPT features; `milbench run --allow-missing`" in result.stdout
    folder = tmp_path / "data" / "tcga-brca"
    assert "non-commercial" in (folder / "features.NOTICE").read_text()
    cohort = read_cohort(CohortFile("brca", folder / "labels.csv", folder / "features"), allow_missing=True)
    assert len(cohort.slides) == 7


def test_features_need_the_licence_accepted(small_cohort: FakeServer, milbench_here: Milbench) -> None:
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort), "--features", "hipt")
    assert result.returncode == 2
    assert "--accept-licence" in result.stderr
    assert "non-commercial academic use" in result.stderr
    assert "pre-trained on TCGA" in result.stderr
    assert small_cohort.asked == []


def test_an_object_that_the_store_refuses_names_its_slide_and_keeps_the_others(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    small_cohort.refused_objects = {hipt.slides_of("brca")[6].sha256}
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort), *FEATURES)
    assert result.returncode == 2
    assert "refuses slide P7.S" in result.stderr
    assert "404 Object does not exist" in result.stderr
    assert len(list((tmp_path / "data" / "tcga-brca" / "features").glob("*.pt"))) == 6
    small_cohort.refused_objects.clear()
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort), *FEATURES)
    assert "1 fetched, 6 already there" in result.stdout


def test_features_of_two_encoders_are_not_mixed(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    own = tmp_path / "data" / "tcga-brca" / "features" / "P1.S.h5"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort), *FEATURES)
    assert result.returncode == 2
    assert "must not mix" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tcga-brac", "--data-root", "d"], "Did you mean 'tcga-brca'"),
        (["tcga-brca"], "set the environment variable MILBENCH_DATA"),
        (["tcga-brca", "--data-root", "d", "--labels-url", "ftp://x"], "'ftp://x' is no address"),
        (["tcga-brca", "--data-root", "d", "--timeout", "0"], "--timeout takes seconds above 0"),
        (["tcga-brca", "--data-root", "d", "--features", "uni"], "invalid choice"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(
    server: FakeServer, milbench_here: Milbench, words: list[str], message: str
) -> None:
    result = milbench_here("data", "fetch", *words)
    assert result.returncode == 2
    assert message in result.stderr


def test_a_folder_that_cannot_be_written_is_told(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort))
    assert result.returncode == 2
    assert "cannot be read or written" in result.stderr


def test_the_packed_list_of_features_has_the_counts_that_the_terms_name() -> None:
    slides = [slide for table in released.TABLES for slide in hipt.slides_of(table.short)]
    assert len(slides) == len({slide.slide_id for slide in slides}) == 3418
    assert sum(table.n_slides for table in released.TABLES) - len(slides) == 237
    assert "237 of the study's 3,655" in hipt.TERMS


@pytest.mark.realdata
@pytest.mark.skipif(not (SHARED / "data" / "tcga_labels").exists(), reason="the released tables are not here")
def test_the_released_tables_pass_their_hashes_and_counts(
    server: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    for path in (SHARED / "data" / "tcga_labels").glob("all_*.csv"):
        server.files[f"/labels/{path.name}"] = path.read_bytes()
    result = milbench_here("data", "fetch", "tcga-*", *flags(server))
    assert result.returncode == 0, result.stderr
    assert sum(len(path.read_text().splitlines()) - 1 for path in tmp_path.rglob("labels.csv")) == 3655
    shutil.rmtree(tmp_path / "data")


def test_a_pipe_in_the_place_of_the_table_is_not_waited_for(
    small_cohort: FakeServer, milbench_here: Milbench, tmp_path: Path
) -> None:
    (tmp_path / "data" / "tcga-brca").mkdir(parents=True)
    os.mkfifo(tmp_path / "data" / "tcga-brca" / "labels.csv")
    result = milbench_here("data", "fetch", "tcga-brca", *flags(small_cohort))
    assert result.returncode == 2
    assert "labels.csv is a named pipe, not a file" in result.stderr
