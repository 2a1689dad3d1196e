"""`milbench data ...`: flags and one call a command. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import AcquireError, UsageError

if TYPE_CHECKING:
    from milbench.acquire.http import Http
    from milbench.acquire.released import Released

COMMANDS: dict[str, str] = {
    "fetch": "fetch the released labels of TCGA cohorts, and region features if wanted",
    "labels": "make a label table of any study and gene from cBioPortal and the GDC",
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


def _data_root(options: argparse.Namespace) -> Path | None:
    place = options.data_root or os.environ.get("MILBENCH_DATA", "")
    return Path(place) if place else None


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


# ---- splits --------------------------------------------------------------------------------------
