"""`milbench data ...`: flags and one call a command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milbench.errors import AcquireError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from milbench.acquire.http import Http
    from milbench.acquire.released import Released
    from milbench.cohorts.cohort import CohortFile
    from milbench.simulate.write import Simulation, Written

EXIT_OK, EXIT_PROBLEMS = 0, 1

COMMANDS: dict[str, str] = {
    "inspect": "say what a folder of features holds, and draft a cohort.yaml",
    "check": "check labels against features; lists every problem, worst first",
    "pack": "write a cohort once more in the layout that reads fastest",
    "splits": "write a cohort's splits as CLAM, Patho-Bench or STAMP read them",
    "fetch": "fetch the released labels of TCGA cohorts, and region features if wanted",
    "labels": "make a label table of any study and gene from cBioPortal and the GDC",
    "simulate": "make a cohort whose answer is known, with its best possible AUC",
}
"""What each command does, in a line; `_add_<name>_flags` and `_<name>` below belong to it."""


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Put every command of `milbench data` below `parser`."""
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=globals()[f"_{name}"])
        globals()[f"_add_{name}_flags"](command)


# ---- inspect, check, pack ------------------------------------------------------------------------


def _add_inspect_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of features, or of a whole cohort")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label table (default: looked for beside)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the draft (default: ./cohort.yaml)")


def _inspect(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show_data
    from milbench.intake import inspection

    console = Console(highlight=False)
    found = inspection.inspect_folder(options.path, show_data.watcher(console))
    if options.labels:
        labels, known = options.labels, inspection.n_labelled(options.labels, found.headers)
    else:
        labels, known = inspection.find_labels(options.path, found.headers)
    rows = [*inspection.facts(found), ("labels", f"{labels}, {known} of these slides" if labels else "none found")]
    show_data.facts(console, rows)
    for message in found.broken.values():
        show_data.line(console, f"unreadable: {message}")
    out = options.out or Path("cohort.yaml")
    inspection.write_draft(inspection.draft(found, labels, _cohort_name(options.path.resolve()), out), out)
    show_data.line(console, f"draft: {out}\nnext: milbench data check {out}\n      milbench run --cohort {out}")
    return EXIT_OK


def _add_check_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--splits", default="", metavar="NAME|FILE", help="protocol to count positives under")
    parser.add_argument(
        "--deep", action="store_true", help="read every value: NaN, zeros, constants, duplicates, checksums"
    )


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show_data
    from milbench.intake.check import check_cohort

    console = Console(highlight=False)
    watch = show_data.watcher(console)
    result = check_cohort(_cohort_file(options), watch, splits=options.splits, deep=options.deep)
    show_data.check(console, result)
    return EXIT_OK if result.passed else EXIT_PROBLEMS


def _add_pack_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the packed cohort goes")
    parser.add_argument("--dtype", required=True, help="float16 (half the size, rounded) or float32")


def _pack(options: argparse.Namespace) -> int:
    from rich.console import Console

    from milbench.commands import show_data
    from milbench.intake.pack import pack
    from milbench.machine.sizes import bytes_text

    console = Console(highlight=False)
    done = pack(_cohort_file(options), options.out, options.dtype, show_data.watcher(console))
    show_data.line(
        console,
        f"packed {done.written} slides ({done.kept} were there already), {bytes_text(done.bytes_before)} -> "
        f"{bytes_text(done.bytes_after)}, largest rounding {done.largest_rounding:.1e} of the slide's largest value\n"
        f"next: milbench run --cohort {done.cohort}",
    )
    return EXIT_OK


def _add_cohort_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", metavar="COHORT", help="your folder or YAML file, or a dataset such as tcga-brca")
    parser.add_argument("--data-root", type=Path, metavar="FOLDER", help="where datasets lie (default: $MILBENCH_DATA)")


def _cohort_file(options: argparse.Namespace) -> CohortFile:
    """Where the cohort's labels and features lie, by path or by a dataset's name."""
    from milbench.cohorts.cohort import cohort_file
    from milbench.datasets import all_datasets
    from milbench.errors import UsageError

    path, entry = Path(options.cohort), all_datasets().get(options.cohort)
    if path.exists() or entry is None:
        return cohort_file(path)
    if entry.file is None:
        raise UsageError(f"{entry.name} is made on the fly: it has no files.")
    return entry.file(_data_root(options))


def _cohort_name(folder: Path) -> str:
    """Of the folder, or of the one above where it is named after what extracted the features: tables are headed by it."""
    generic = folder.name.lower().startswith(("features", "feats", "h5_files", "pt_files"))
    return folder.parent.name if generic and folder.parent.name else folder.name


def _data_root(options: argparse.Namespace) -> Path | None:
    root = options.data_root or os.environ.get("MILBENCH_DATA")
    return Path(root) if root else None


# ---- fetch, labels -------------------------------------------------------------------------------


def _add_fetch_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohorts", nargs="+", metavar="NAME", help="names or patterns such as tcga-brca or 'tcga-*'")
    parser.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    parser.add_argument("--features", choices=["hipt"], help="fetch features too: HIPT's region features, about 100 MB")
    parser.add_argument("--accept-licence", action="store_true", help="accept the terms of the features")
    _add_network_flags(parser, "labels", "lfs")


def _add_labels_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", nargs="+", required=True, metavar="ID",
                        help="cBioPortal studies such as brca_tcga_pan_can_atlas_2018")  # fmt: skip
    genes = parser.add_mutually_exclusive_group(required=True)
    genes.add_argument("--genes", nargs="+", metavar="GENE", help="names of the genes")
    genes.add_argument("--top-genes", type=int, metavar="N", help="the N genes mutated in the most patients")
    parser.add_argument("--project", nargs="+", default=[], metavar="ID",
                        help="the GDC's projects with the slides (default: by the study's name)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: labels/<study>)")
    parser.add_argument("--compare", type=Path, metavar="CSV",
                        help="label table to compare with (default: the released one, where it was fetched)")  # fmt: skip
    parser.add_argument("--data-root", metavar="FOLDER", help="where it was fetched to (default: $MILBENCH_DATA)")
    parser.add_argument("--refresh", action="store_true", help="ask again for what is kept of an earlier call")
    _add_network_flags(parser, "cbioportal", "gdc")


def _add_network_flags(parser: argparse.ArgumentParser, *servers: str) -> None:
    network = parser.add_argument_group("network")
    network.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="silence allowed (default 60)")
    network.add_argument("--retries", type=int, default=5, metavar="N", help="further tries (default 5)")
    for server in servers:
        network.add_argument(f"--{server}-url", metavar="URL", help="for mirrors and private instances")


def _fetch(options: argparse.Namespace) -> int:
    from milbench.acquire import hipt, released

    tables = released.chosen(options.cohorts)
    root = _data_root(options)
    if root is None:
        raise UsageError("where to? Give --data-root FOLDER or set the environment variable MILBENCH_DATA.")
    if options.features:
        hipt.refuse_without_licence(accepted=options.accept_licence)
        _say(hipt.TERMS)
    try:
        with _client(options) as client:
            for table in tables:
                new = released.fetch_labels(client, table, root, url=_url(options.labels_url) or released.LABELS_URL)
                _say(f"{table.name}: labels of {table.n_slides} slides, {'fetched' if new else 'already there'}")
            for table in tables if options.features else []:
                _fetch_features(client, table, root / table.name, _url(options.lfs_url) or hipt.LFS_URL)
    except OSError as error:
        raise _disk_error(error) from error
    return 0


def _fetch_features(client: Http, table: Released, folder: Path, url: str) -> None:
    from milbench.acquire import hipt
    from milbench.acquire.bar import download_bar

    slides = hipt.slides_of(table.short)
    hipt.write_notice(folder)
    with download_bar(table.name, sum(slide.bytes for slide in slides)) as advance:
        done = hipt.fetch_features(client, slides, folder / "features", url=url, advance=advance)
    without = table.n_slides - len(slides)
    _say(f"{table.name}: features of {len(slides)} slides, {done.n_new} fetched, {done.n_there} already there")
    _say(f"{table.name}: {without} slides have no HIPT features; `milbench run --allow-missing` skips and counts them")


def _labels(options: argparse.Namespace) -> int:
    import shutil

    from milbench.acquire.build import Sources, build_labels

    if options.top_genes is not None and options.top_genes < 1:
        raise UsageError(f"--top-genes takes a number from 1 up; got {options.top_genes}.")
    folder = options.out or Path("labels") / "+".join(options.study)
    cache = folder / ".answers"
    usual = Sources()
    sources = Sources(_url(options.cbioportal_url) or usual.cbioportal, _url(options.gdc_url) or usual.gdc)
    try:
        if options.refresh:
            shutil.rmtree(cache, ignore_errors=True)
        with _client(options, cache) as client:
            built = build_labels(
                client,
                options.study,
                folder,
                genes=options.genes or (),
                top=options.top_genes or 0,
                projects=options.project,
                released=options.compare or _fetched_table(options),
                sources=sources,
            )
    except OSError as error:
        raise _disk_error(error) from error
    _say(built.report)
    _say(f"\nwrote labels.csv, manifest.txt and report.txt in {built.folder}")
    _say("the servers' answers are kept in .answers there; --refresh asks again")
    _say(f"slides: gdc-client download -m {built.folder / 'manifest.txt'}")
    return 0


def _fetched_table(options: argparse.Namespace) -> Path | None:
    """The released table of the cohort that has exactly these studies, if it was fetched."""
    from milbench.acquire.released import TABLES

    root = _data_root(options)
    paths = [root / table.name / "labels.csv" for table in TABLES if root and set(table.studies) == set(options.study)]
    return next((path for path in paths if path.exists()), None)


def _client(options: argparse.Namespace, cache: Path | None = None) -> Http:
    from milbench.acquire.http import Http

    if not options.timeout > 0 or options.retries < 0:
        raise UsageError("--timeout takes seconds above 0, --retries a number from 0 up.")
    return Http(timeout=options.timeout, retries=options.retries, cache=cache)


def _url(given: str | None) -> str:
    """The address without a slash at its end; "" if none was given."""
    if given and not given.startswith(("http://", "https://")):
        raise UsageError(f"'{given}' is no address; expected http://... or https://...")
    return (given or "").rstrip("/")


def _disk_error(error: OSError) -> AcquireError:
    return AcquireError(
        f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}). Check the folder's rights "
        "and the free space, and give the same command again: finished files are kept."
    )


def _say(text: str) -> None:
    print(text)  # noqa: T201


# ---- simulate ------------------------------------------------------------------------------------


def _add_simulate_flags(parser: argparse.ArgumentParser) -> None:
    from milbench.simulate.design import PRESETS

    parser.add_argument("preset", metavar="PRESET", help="; ".join(f"{name}: {p.about}" for name, p in PRESETS.items()))
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write; goes on if begun")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="label table (default: a synthetic one)")
    parser.add_argument("--slides", type=int, metavar="N", help="number of slides (of a given table the first N)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed makes the same bytes (default 0)"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="assignments",
                        help="any part of the design, such as width=64 or strengths=[3,4,5]; see docs/simulate.md")  # fmt: skip


def _simulate(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from milbench.simulate.design import make_design
    from milbench.simulate.write import simulate, write_cohort

    assignments = [_assignment(text) for text in options.assignments]
    if options.slides is not None:
        assignments.append(("slides", options.slides))
    elif options.labels and not any(key == "slides" for key, _ in assignments):
        assignments.append(("slides", 0))  # all of the given table, whatever the preset makes
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}; expected 0 or more.")
    console = Console(highlight=False)
    simulation = simulate(make_design(options.preset, assignments), options.seed, options.labels)
    bar = iter(track(simulation.labels.slides["slide_id"], "slides", console=console, disable=not console.is_terminal))
    next(bar, None)
    written = write_cohort(simulation, options.out, lambda: next(bar, None))
    _print_simulation(console, simulation, written, options.out)
    return 0


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes key=value, for example width=64; got '{text}'.")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {text}: the value is not valid YAML ({error}).") from error


def _print_simulation(console: Console, simulation: Simulation, written: Written, out: Path) -> None:
    from math import isnan

    from rich.table import Table

    slides, oracle = simulation.labels.slides, simulation.oracle
    console.print(
        f"{out}: {len(slides)} slides ({written.made} made, {written.kept} there before) of "
        f"{slides['patient_id'].nunique()} patients, {written.patches:,} patches, "
        f"{simulation.design.width} wide, {written.bytes / 1e6:,.1f} MB"
    )
    table = Table("task", "positive", "oracle, own carrier", "oracle, all carriers", "carriers as drawn")
    for row, task in enumerate(simulation.labels.tasks):
        scores = ["-" if isnan(value[row]) else f"{value[row]:.3f}" for value in oracle]
        table.add_row(task, f"{slides[task].mean():.2f}", *scores)
    console.print(table)
    console.print(f"next: milbench run --cohort {out}")


# ---- splits --------------------------------------------------------------------------------------


def _add_splits_flags(parser: argparse.ArgumentParser) -> None:
    _add_cohort_flags(parser)
    parser.add_argument("--to", required=True, metavar="TOOL", help="clam, pathobench or stamp")
    parser.add_argument("--out", required=True, type=Path, metavar="PATH", help="where to write: a folder or a file")
    parser.add_argument("--splits", metavar="NAME|PATH", help="kfold, m4, site or a path (default: the cohort's)")
    parser.add_argument("--allow-missing", action="store_true", help="skip slides without features or label")


def _splits(options: argparse.Namespace) -> int:
    from milbench.datasets import all_datasets
    from milbench.datasets.source import CohortSource
    from milbench.errors import UsageError
    from milbench.splits import N_FOLDS, audit, make_split
    from milbench.splits.files import write_split

    path = Path(options.cohort)
    if not path.exists() and options.cohort not in all_datasets():
        raise UsageError(f"'{path}' is neither a cohort's folder or YAML file nor a dataset's name.")
    place = {"path": path} if path.exists() else {"name": options.cohort}
    cohort = CohortSource(**place, data_root=_data_root(options), allow_missing=options.allow_missing).load()
    protocol, n_folds = options.splits or cohort.splits, max(N_FOLDS, cohort.n_folds)
    split = make_split(cohort.patients_from, cohort.tasks, protocol, n_folds=n_folds)
    audit(split, cohort.slides, cohort.tasks)
    notes = write_split(split, cohort.slides, options.to, options.out)
    for note in (*split.notes, *notes):
        print(f"note: {note}")  # noqa: T201
    print(f"{split.n_folds} folds of the {split.protocol} split of {cohort.name}: {options.out}")  # noqa: T201
    return 0
