"""`milbench data fetch`: released labels of TCGA cohorts, and region features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.command import EXIT_OK
from milbench.commands.data.chosen_cohort import data_root_of
from milbench.commands.data.network import add_network_flags, address, client_of, disk_error
from milbench.commands.terminal import say
from milbench.errors import UsageError

if TYPE_CHECKING:
    from milbench.acquire.http import Http
    from milbench.acquire.released import Released

HELP = "fetch the released labels of TCGA cohorts, and region features if wanted"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    parser.add_argument("cohorts", nargs="+", metavar="NAME", help="names or patterns such as tcga-brca or 'tcga-*'")
    parser.add_argument("--data-root", metavar="FOLDER", help="where the datasets' data lie (default: $MILBENCH_DATA)")
    parser.add_argument("--features", choices=["hipt"], help="fetch features too: HIPT's region features, about 100 MB")
    parser.add_argument("--accept-licence", action="store_true", help="accept the terms of the features")
    add_network_flags(parser, "labels", "lfs")


def call(options: argparse.Namespace) -> int:
    """Exit code of fetching."""
    from milbench.acquire import hipt, released

    tables = released.chosen(options.cohorts)
    root = data_root_of(options)
    if root is None:
        raise UsageError(
            "no data folder is named. Give --data-root FOLDER or set the environment variable MILBENCH_DATA."
        )
    if options.features:
        hipt.refuse_without_licence(accepted=options.accept_licence)
        say(hipt.TERMS)
    try:
        with client_of(options) as client:
            for table in tables:
                new = released.fetch_labels(client, table, root, url=address(options.labels_url) or released.LABELS_URL)
                say(f"{table.name}: labels of {table.n_slides} slides, {'fetched' if new else 'already there'}")
            for table in tables if options.features else []:
                _fetch_features(client, table, root / table.name, address(options.lfs_url) or hipt.LFS_URL)
    except OSError as error:
        raise disk_error(error) from error
    return EXIT_OK


def _fetch_features(client: Http, table: Released, folder: Path, url: str) -> None:
    from milbench.acquire import hipt
    from milbench.acquire.bar import download_bar

    slides = hipt.slides_of(table.short)
    hipt.write_notice(folder)
    with download_bar(table.name, sum(slide.bytes for slide in slides)) as advance:
        done = hipt.fetch_features(client, slides, folder / "features", url=url, advance=advance)
    without = table.n_slides - len(slides)
    say(f"{table.name}: features of {len(slides)} slides, {done.n_new} fetched, {done.n_there} already there")
    say(f"{table.name}: {without} slides have no HIPT features; `milbench run --allow-missing` skips and counts them")
