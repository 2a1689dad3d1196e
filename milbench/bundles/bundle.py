"""Bundle: a finished run as a folder or zip that a reader can check. The same run gives the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import milbench
from milbench.bundles.archive import write_zip
from milbench.bundles.crate import write_crate
from milbench.bundles.layout import CITATION, HEADER, NOT_DECLARED, README, REPORT, RUNS, Header
from milbench.bundles.leaks import refuse_leaks
from milbench.bundles.pseudonyms import Pseudonyms
from milbench.bundles.reading import citation, readme
from milbench.bundles.run_copy import RunCopy
from milbench.bundles.scrub import Scrubber, folders_of, hosts_of, machine_names
from milbench.bundles.seal import write_checksums
from milbench.errors import StoreError, UsageError
from milbench.report import DRAWS, REFERENCE, write_report
from milbench.report.searches import refuse_searches
from milbench.store.files import replacing_file, temporary_name, writing
from milbench.store.run import Run, open_run


@dataclass(frozen=True)
class Wishes:
    """How a bundle is to be made.

    Attributes
    ----------
    title, authors, licence : as the reader shall see them; the licence is that of the data.
    reference, highlight, draws, complete_cases : of the report.
    weights : whether trained weights go along.
    pseudonyms : keyed hashes in place of ids; None = ids stay.
    crate : whether to write RO-Crate metadata, which need the package `rocrate`.
    """

    title: str = ""
    authors: tuple[str, ...] = ()
    licence: str = NOT_DECLARED
    reference: str = REFERENCE
    highlight: str = ""
    draws: int = DRAWS
    complete_cases: bool = False
    weights: bool = False
    pseudonyms: Pseudonyms | None = None
    crate: bool = True


def bundle(run: Run, out: Path, wishes: Wishes) -> str:
    """Write the bundle of a run to `out`, whole or not at all: a zip if the name ends in .zip, else a folder; its seal.

    Raises
    ------
    StoreError : a trial is damaged, the report is refused, a name of this machine would be in a file, or `out` is taken.
    UsageError : the package `rocrate` is missing, or weights were asked for and not kept.
    """
    out, run = out.absolute(), run.snapshot()
    _refuse_unfit(run, out, wishes)
    with _finished(out) as folder:
        seal = _fill(folder, run, wishes)
    return seal


def _refuse_unfit(run: Run, out: Path, wishes: Wishes) -> None:
    if out.exists() or out.is_symlink():
        raise StoreError(
            f"{out} is there already, and was left as it is. Move it away, or choose another place with --out."
        )
    if out.is_relative_to(run.path.absolute()):
        raise StoreError(f"{out} lies inside the run folder. Choose another place with --out.")
    refuse_searches([run])
    if damaged := run.damaged():
        name, why = next(iter(damaged.items()))
        raise StoreError(
            f"{len(damaged)} trial(s) of {run.path} are damaged, first {name}: {why}. Start the run's command again, which "
            "computes them anew."
        )
    if not run.trials():
        raise StoreError(f"{run.path}: no finished trial to bundle. Finish the run first.")
    if wishes.weights and not all(trial.keeps_weights for trial in run.trials()):
        raise UsageError(f"{run.path} has trials without weights. Leave --weights away, or train them with weights.")


@contextmanager
def _finished(out: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `out`, as it is or packed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out.parent):
        if out.suffix.lower() != ".zip":
            with _renamed(out) as folder:
                yield folder
            return
        with replacing_file(out) as target:
            folder = target.parent / "content"
            folder.mkdir()
            yield folder
            write_zip(folder, target)


@contextmanager
def _renamed(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, with folders inside, which gets its name at the end or is deleted on an error."""
    beside = out.with_name(temporary_name(f".{out.name[:40]}"))
    beside.mkdir()
    try:
        yield beside
        beside.replace(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _fill(folder: Path, run: Run, wishes: Wishes) -> str:
    machine = machine_names(hosts_of(run))
    scrubber = Scrubber(machine, wishes.pseudonyms)
    name = scrubber.text(run.path.absolute().name)
    copy = RunCopy(run, folder / RUNS / name, scrubber, wishes.weights)
    copy.write()
    header = _header(run, copy, name, wishes)
    travelling = open_run(folder / RUNS / name)
    travelling.shown = Path(RUNS) / name
    write_report(
        [travelling], folder / REPORT, reference=header.reference, draws=header.draws, highlight=header.highlight,
        complete_cases=header.complete_cases, title=header.title,
    )  # fmt: skip
    (folder / HEADER).write_bytes(header.to_json())
    (folder / README).write_text(readme(header), encoding="utf-8", newline="\n")
    (folder / CITATION).write_text(citation(header), encoding="utf-8", newline="\n")
    if wishes.crate:
        write_crate(folder, header)
    refuse_leaks(folder, run, (*machine, *folders_of(run)), hidden=wishes.pseudonyms is not None)
    return write_checksums(folder)


def _header(run: Run, copy: RunCopy, name: str, wishes: Wishes) -> Header:
    done = {copy.ids[trial.id] for trial in run.trials()}
    return Header(
        milbench=milbench.__version__,
        run=name,
        title=wishes.title or name,
        authors=wishes.authors,
        licence=wishes.licence or NOT_DECLARED,
        anonymised=wishes.pseudonyms is not None,
        salt=wishes.pseudonyms.name if wishes.pseudonyms else "",
        weights=wishes.weights,
        reference=wishes.reference,
        highlight=wishes.highlight,
        draws=wishes.draws,
        complete_cases=wishes.complete_cases,
        missing=tuple(sorted(each.rpartition("-")[0] for each in copy.ids.values() if each not in done)),
        finished_at=max(str(trial.info["finished_at"]) for trial in run.trials()),
    )
