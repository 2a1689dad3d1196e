"""Publishing: what is stored -> MLflow, a run's trials or a report's files, when a command asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from milbench.errors import MilbenchError, TrackingError
from milbench.store.run import Run
from milbench.tracking.client import all_runs, default_uri
from milbench.tracking.publisher import KIND, Publisher, unreachable
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
    TrackingError : the server or database cannot be reached.
    """
    try:
        publisher = Publisher(uri, run)
        trials = as_they_ran(run.trials())
        for trial in trials:
            publisher.publish(trial)
        publisher.summarise()
    except MilbenchError:
        raise
    except Exception as error:
        raise TrackingError(unreachable(uri, run, error)) from error
    return len(trials)


def publish_report(run: Run, uri: str, folder: Path) -> int:
    """Number of parent runs that now hold the report's files about their cohort, below the artifact path "report".

    Files about one cohort go to that cohort's parents, files about all cohorts to every parent. `folder` is what
    `milbench.report.write_report` wrote; a second call replaces the files.

    Raises
    ------
    TrackingError : the server or database cannot be reached.
    """
    try:
        publish(run, uri)  # the parents must be there
        publisher = Publisher(uri, run)
        parents = [
            known for known in all_runs(publisher.client, publisher.experiment) if known.data.tags.get(KIND) == "parent"
        ]
        for parent in parents:
            for path in report_files(folder, parent.data.tags["dataset"], run.datasets):
                place = Path("report", path.relative_to(folder).parent)
                publisher.client.log_artifact(parent.info.run_id, str(path), place.as_posix())
        return len(parents)
    except MilbenchError:
        raise
    except Exception as error:
        raise TrackingError(unreachable(uri, run, error)) from error


ARTIFACT_SUFFIXES = frozenset({".tex", ".csv", ".md", ".png", ".pdf"})
"""Tables and figures. The page is left out: with its script it would weigh megabytes on every parent."""


def report_files(folder: Path, dataset: str, datasets: Iterable[str]) -> list[Path]:
    """Tables and figures of a report that concern `dataset`: its own and those about all cohorts, sorted."""
    names = sorted(datasets, key=len, reverse=True)  # "my_digits" before "digits", which ends its name too
    files = sorted(path for path in folder.rglob("*") if path.suffix in ARTIFACT_SUFFIXES and path.is_file())
    owner = {path: next((name for name in names if path.stem.endswith(f"_{name}")), dataset) for path in files}
    return [path for path in files if owner[path] == dataset]
