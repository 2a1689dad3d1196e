"""Publishing: what is stored -> MLflow, a run's trials or a report's files, when a command asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from milbench.errors import MilbenchError, TrackingError
from milbench.store.run import Run
from milbench.tracking.client import all_runs, default_uri
from milbench.tracking.publisher import KIND, Publisher, refusals, unreachable
from milbench.tracking.values import as_they_ran


def tracked_at(run: Run) -> str:
    """Where the run's trials are tracked, from its configuration; empty where they are not."""
    tracking = run.config.get("tracking", {})
    if not tracking.get("enabled", False):
        return ""
    return str(tracking.get("uri") or default_uri(run.path.absolute().parent))


def publish(run: Run, uri: str) -> int:
    """Number of trials of `run` now at `uri`; those already there are not doubled.

    Raises
    ------
    TrackingError : the server or database cannot be reached; or it refused some trials, and the others are there.
    """
    with _as_tracking_error(run, uri):
        publisher = _published(run, uri)
        _refuse_gaps(publisher)
    return len(run.trials())


def publish_report(run: Run, uri: str, folder: Path) -> int:
    """Number of parent runs that now hold the report's files about their cohort, below the artifact path "report".

    Files about one cohort go to that cohort's parents, files about all cohorts to every parent. `folder` is what
    `milbench.report.write_report` wrote; a second call replaces the files.

    Raises
    ------
    TrackingError : the server or database cannot be reached; or it refused some trials.
    """
    with _as_tracking_error(run, uri):
        publisher = _published(run, uri)  # the parents must be there
        parents = [
            known for known in all_runs(publisher.client, publisher.experiment) if known.data.tags.get(KIND) == "parent"
        ]
        for parent in parents:
            for path in report_files(folder, parent.data.tags["dataset"], run.datasets):
                place = Path("report", path.relative_to(folder).parent)
                publisher.client.log_artifact(parent.info.run_id, str(path), place.as_posix())
        _refuse_gaps(publisher)
    return len(parents)


ARTIFACT_SUFFIXES = frozenset({".tex", ".csv", ".md", ".png", ".pdf"})
"""Tables and figures. The page is left out: with its script it would weigh megabytes on every parent."""


def report_files(folder: Path, dataset: str, datasets: Iterable[str]) -> list[Path]:
    """Tables and figures of a report that concern `dataset`: its own and those about all cohorts, sorted."""
    names = sorted(datasets, key=len, reverse=True)  # "my_digits" before "digits", which ends its name too
    files = sorted(path for path in folder.rglob("*") if path.suffix in ARTIFACT_SUFFIXES and path.is_file())
    owner = {path: next((name for name in names if path.stem.endswith(f"_{name}")), dataset) for path in files}
    return [path for path in files if owner[path] == dataset]


def _published(run: Run, uri: str) -> Publisher:
    """What has written all trials and the parents' summaries."""
    publisher = Publisher(uri, run)
    for trial in as_they_ran(run.trials()):
        publisher.publish_or_note(trial)
    publisher.summarise()
    return publisher


def _refuse_gaps(publisher: Publisher) -> None:
    if publisher.refused:
        raise TrackingError(refusals(publisher))


@contextmanager
def _as_tracking_error(run: Run, uri: str) -> Iterator[None]:
    try:
        yield
    except MilbenchError:
        raise
    except Exception as error:
        raise TrackingError(unreachable(uri, run, error)) from error
