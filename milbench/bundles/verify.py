"""Verify: whether a bundle is what it says, each number of its report made again from its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import milbench
from milbench.bundles.archive import unpacked
from milbench.bundles.around_run import around_run_differences, other_plotly
from milbench.bundles.difference import Difference
from milbench.bundles.layout import CITATION, CRATE, HEADER, README, REPORT, RUNS, Header, read_header
from milbench.bundles.numbers import PAGE, compare
from milbench.bundles.run_copy import NESTED
from milbench.bundles.seal import checksum_differences, files_in, seal_of
from milbench.bundles.soundness import differences
from milbench.errors import MilbenchError
from milbench.report import Recomputed, recompute
from milbench.report.html.page import PLOTLY
from milbench.store.run import Run, open_run
from milbench.store.run_folder import (
    CHOSEN,
    CONFIG,
    DATASETS,
    ENVIRONMENT,
    FAILURES,
    LABELS,
    PLAN,
    QUESTIONS,
    SPLITS,
    TRIALS,
)
from milbench.store.trial import HISTORY, PREDICTIONS, TRIAL, WEIGHTS

ALWAYS = (HEADER, README, CITATION, CRATE)
HEADERS = (CONFIG, ENVIRONMENT, DATASETS, PLAN, QUESTIONS)
SUFFIXES = {SPLITS: ".csv", LABELS: ".csv", FAILURES: ".json", CHOSEN: ".yaml"}
"""Of the files in a run's folders."""
FIGURE = (".png", ".pdf")


@dataclass(frozen=True)
class Verdict:
    """What verifying found.

    Attributes
    ----------
    name : of the run.
    header : of the bundle; None of a run folder, which has no report to hold against its predictions.
    differences : what is not as it should be; none if all is well.
    n_numbers : numbers of the report that were made again.
    n_trials : finished trials.
    n_files : files with a checksum.
    seal : SHA-256 of the checksums; "" of a run folder.
    notes : what a reader should know and is no difference.
    """

    name: str
    header: Header | None
    differences: tuple[Difference, ...]
    n_numbers: int = 0
    n_trials: int = 0
    n_files: int = 0
    seal: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, Header, Run]]:
    """The folder of a bundle, what it says of itself, and its run as it is now.

    Raises
    ------
    StoreError : it is no bundle, or cannot be read.
    """
    with unpacked(path) as root:
        header = read_header(root)
        yield root, header, _run_in(root, header)


def _run_in(root: Path, header: Header) -> Run:
    run = open_run(root / header.run_folder)
    run.shown = header.run_folder
    return run.snapshot()


def verify(path: Path) -> Verdict:
    """What a bundle, or a run folder, holds that it should not.

    Raises
    ------
    StoreError : it cannot be read at all.
    """
    if (path / "run.yaml").is_file() and not (path / HEADER).is_file():
        run: Run = open_run(path).snapshot()
        found = tuple(differences(run, "", _places(run)))
        return Verdict(run.name, None, found, n_trials=len(run.trials()))
    with opened(path) as (root, header, run):
        return verify_folder(root, header, run)


def verify_folder(root: Path, header: Header, run: Run) -> Verdict:
    """The verdict on an opened bundle."""
    found = list(checksum_differences(root))
    found += _strangers(root, header)
    found += differences(run, f"{header.run_folder.as_posix()}/", header.missing)
    found += around_run_differences(root, header, run)
    n_numbers = 0
    try:
        anew = recompute(
            [run], root / REPORT, reference=header.reference, draws=header.draws, complete_cases=header.complete_cases,
            title=header.title, highlight=header.highlight,
        )  # fmt: skip
    except MilbenchError as error:
        found.append(Difference(f"{REPORT}/", f"could not be recomputed: {error}"))
    else:
        comparison = compare(anew, root / REPORT, f"{REPORT}/")
        n_numbers = comparison.n_numbers
        found += comparison.differences
        found += _strangers_in(root, anew)
    return Verdict(
        header.run, header, tuple(dict.fromkeys(found)), n_numbers, len(run.trials()), len(files_in(root)), seal_of(root),
        tuple(_notes(root, header)),
    )  # fmt: skip


def _places(run: Run) -> set[str]:
    """Places of the plan that hold nothing: a run folder may be unfinished."""
    return {trial_id.rpartition("-")[0] for trial_id in run.planned().values() if not run.has_record(trial_id)}


def _strangers(root: Path, header: Header) -> Iterator[Difference]:
    """Files at places where a bundle has none."""
    folder = f"{header.run_folder.as_posix()}/"
    for name in files_in(root):
        if name in ALWAYS or name.startswith(f"{REPORT}/"):
            continue
        if not name.startswith(folder):
            yield Difference(name, f"is at no place of a bundle: {', '.join(ALWAYS)}, {RUNS}/{header.run} and {REPORT}")
        elif not _is_of_a_run(name.removeprefix(folder)):
            yield Difference(name, "is no file of a run that travels")


def _is_of_a_run(name: str) -> bool:
    for inner in NESTED:
        name = name.removeprefix(f"{inner}/")
    parts = name.split("/")
    if len(parts) == 1:
        return name in HEADERS
    if parts[0] == TRIALS:
        return len(parts) == 6 and parts[-1] in (PREDICTIONS, HISTORY, WEIGHTS, TRIAL)
    return len(parts) == 2 and Path(name).suffix == SUFFIXES.get(parts[0])


def _strangers_in(root: Path, anew: Recomputed) -> Iterator[Difference]:
    """Files in the folder of the report that no report has, and figures that this one lacks."""
    names = set(files_in(root / REPORT))
    pictures = {f"{stem}{suffix}" for stem in anew.figures for suffix in FIGURE}
    for name in sorted(names - {*anew.texts, *anew.around, *pictures, PAGE, PLOTLY}):
        yield Difference(f"{REPORT}/{name}", "is no file of the report")
    for name in sorted(pictures - names):
        yield Difference(f"{REPORT}/{name}", "is missing: the report has this figure")


def _notes(root: Path, header: Header) -> Iterator[str]:
    if header.milbench != milbench.__version__:
        yield f"made by milbench {header.milbench}, verified by {milbench.__version__}: a text may differ for that reason alone"
    if header.missing:
        yield f"{len(header.missing)} trial(s) of the plan were not done when the bundle was made"
    if other_plotly(root):
        yield f"{REPORT}/{PLOTLY} is of another version than here: only its checksum was compared"
    yield "figures are pictures: their checksums were compared, and they were not drawn again"
