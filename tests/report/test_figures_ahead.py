"""Figures drawn ahead: the same files, whoever drew them, and none if the report is refused."""

import os
from pathlib import Path

import psutil
import pytest
from kinds_for_tests import make_run_of_kinds
from runs_for_tests import make_run

from milbench.errors import StoreError
from milbench.process import forked
from milbench.report import contents, drawings, figures_ahead, write_report
from milbench.report.contents import start
from milbench.report.figures_ahead import Picture
from milbench.store.run import Run

DRAWS = 50
AHEAD = "roc_toy", "training_toy", "box_toy", "radar_toy"
"""Figures of the run that need no statistics."""


@pytest.fixture(autouse=True)
def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies also if another test left a thread behind; drawing uses nothing of it."""
    monkeypatch.setattr(forked, "_may_copy", lambda: True)
    on_cores(2, monkeypatch)


def on_cores(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (figures_ahead, drawings):
        monkeypatch.setattr(module, "usable_cores", lambda: n)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "toy")


@pytest.fixture(scope="module")
def usual(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a report by one process."""
    with pytest.MonkeyPatch.context() as patched:
        on_cores(1, patched)
        return report_on(run, tmp_path_factory.mktemp("reports") / "usual")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def report_on(run: Run, out: Path) -> dict[str, bytes]:
    return files_in(write_report([run], out, draws=DRAWS, title="toy").parent)


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with a line per picture that was drawn ahead: the process that drew it."""
    path, usual = tmp_path / "drawn by", Picture.do
    path.touch()

    def do(picture: Picture) -> None:
        usual(picture)
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    monkeypatch.setattr(Picture, "do", do)
    return path


def test_a_report_is_the_same_bytes_with_figures_drawn_ahead(
    tmp_path: Path, drawn_by: Path, run: Run, usual: dict[str, bytes]
) -> None:
    ahead = report_on(run, tmp_path / "two")
    assert len(drawn_by.read_text().splitlines()) == len(AHEAD)
    assert {f"{stem}.{kind}" for stem in AHEAD for kind in ("png", "pdf")} < usual.keys()
    assert ahead.keys() == usual.keys()
    assert [name for name in usual if ahead[name] != usual[name]] == []


def test_so_it_is_with_tasks_of_several_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path) -> None:
    run = make_run_of_kinds(tmp_path / "kinds")
    ahead = report_on(run, tmp_path / "two")
    assert len(drawn_by.read_text().splitlines()) > 2
    on_cores(1, monkeypatch)
    assert report_on(run, tmp_path / "one") == ahead


def test_a_copy_draws_while_this_process_computes_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, run: Run
) -> None:
    analyse = contents.analyse_grids

    def waits(*given, **named):  # for all of them
        while len(drawn_by.read_text().splitlines()) < len(AHEAD):
            pass
        return analyse(*given, **named)

    monkeypatch.setattr(contents, "analyse_grids", waits)
    report_on(run, tmp_path / "report")
    assert str(os.getpid()) not in drawn_by.read_text()


def test_a_refused_report_changes_no_file_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, run: Run
) -> None:
    out = tmp_path / "report"
    before = report_on(run, out)
    drawn_by.write_text("")
    children = psutil.Process().children()  # of other tests, such as a pool's

    def refuses(*_, **__):
        while not drawn_by.read_text():
            pass
        raise StoreError("an incomplete grid cannot be compared")

    monkeypatch.setattr(contents, "analyse_grids", refuses)
    with pytest.raises(StoreError, match="incomplete"):
        write_report([run], out, draws=DRAWS, title="toy")
    assert files_in(out) == before
    with pytest.raises(StoreError, match="incomplete"):
        write_report([run], tmp_path / "new", draws=DRAWS)
    assert not (tmp_path / "new").exists()
    assert psutil.Process().children() == children


def test_without_memory_to_share_figures_are_drawn_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, run: Run, usual: dict[str, bytes]
) -> None:
    def refused(name: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refused)
    assert report_on(run, tmp_path / "report") == usual
    assert drawn_by.read_text() == ""


def test_where_no_copy_can_be_made_this_process_draws_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, run: Run, usual: dict[str, bytes]
) -> None:
    monkeypatch.setattr(forked, "_may_copy", lambda: False)
    assert report_on(run, tmp_path / "report") == usual
    assert set(drawn_by.read_text().split()) == {str(os.getpid())}


def test_a_figure_that_a_copy_could_not_tell_is_drawn_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_by: Path, run: Run, usual: dict[str, bytes]
) -> None:
    """As where memory is full: half of a figure may lie there then."""

    def full(room, parts):
        os.write(room._descriptor, next(iter(parts)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures_ahead.Told, "write", full)
    assert report_on(run, tmp_path / "report") == usual
    assert str(os.getpid()) in drawn_by.read_text()


@pytest.mark.parametrize("written", ["index.md", "data/scores.csv", "roc_toy.png", "radar_toy.pdf"])
def test_a_report_that_is_killed_leaves_whole_files_and_the_next_one_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, usual: dict[str, bytes], written: str
) -> None:
    out, write_bytes = tmp_path / "report", Path.write_bytes
    (out / "data").mkdir(parents=True)
    mine = out / ".notes"
    mine.write_text("kept")

    def dies_at_half(path: Path, content: bytes) -> int:
        if f"/{written}" in str(path).replace("/.", "/"):
            write_bytes(path, content[: len(content) // 2])
            os._exit(9)
        return write_bytes(path, content)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "write_bytes", dies_at_half)
        on_cores(1, monkeypatch)
        try:
            write_report([run], out, draws=DRAWS, title="toy")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = files_in(out)
    assert {name: content for name, content in left.items() if name in usual and content != usual[name]} == {}
    assert len(left.keys() - usual.keys()) == 2
    assert report_on(run, out) == {**usual, ".notes": b"kept"}


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path, run: Run) -> None:
    (tmp_path / "report" / "roc_toy.png").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write to .*report: .* \(.*/report/roc_toy\.png\)"):
        write_report([run], tmp_path / "report", draws=DRAWS)


def test_names_and_tasks_known_before_statistics_are_those_of_the_analysis(tmp_path: Path) -> None:
    run = make_run(tmp_path / "two", datasets=("tcga-luad", "tcga-gbmlgg"))
    begun = start([run], reference="amil")
    (found,) = contents.finish(begun, reference="amil", draws=DRAWS, complete_cases=False)
    (outline,) = (one.outline for one in begun)
    cells, tasks = found.analysis.cells, found.analysis.tasks
    assert list(outline.model_titles.items()) == list(dict(zip(cells["model"], cells["title"], strict=True)).items())
    assert set(outline.dataset_titles) == set(tasks["dataset"])
    for name in outline.dataset_titles:
        assert list(outline.tasks[name]) == list(tasks.loc[tasks["dataset"] == name, "task"])
