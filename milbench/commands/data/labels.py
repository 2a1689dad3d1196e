"""`milbench data labels`: a label table of any study, of genes and endpoints, from cBioPortal and the GDC."""

from __future__ import annotations

import argparse
from pathlib import Path

from milbench.commands.command import EXIT_OK
from milbench.commands.data.chosen_cohort import data_root_of
from milbench.commands.data.network import add_network_flags, address, client_of, disk_error
from milbench.commands.terminal import say
from milbench.errors import UsageError

HELP = "make a label table of any study, of genes and endpoints, from cBioPortal and the GDC"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the command's flags on `parser`."""
    parser.add_argument("--study", nargs="+", required=True, metavar="ID",
                        help="cBioPortal studies such as brca_tcga_pan_can_atlas_2018")  # fmt: skip
    genes = parser.add_mutually_exclusive_group()
    genes.add_argument("--genes", nargs="+", metavar="GENE", help="names of the genes")
    genes.add_argument("--top-genes", type=int, metavar="N", help="the N genes mutated in the most patients")
    parser.add_argument("--endpoints", action="store_true",
                        help="columns of survival (os, dss, dfs, pfs), subtype, grade and stage, with or without genes")  # fmt: skip
    parser.add_argument("--project", nargs="+", default=[], metavar="ID",
                        help="the GDC's projects with the slides (default: by the study's name)")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: labels/<study>)")
    parser.add_argument("--compare", type=Path, metavar="CSV",
                        help="label table to compare with (default: the released one, if it was fetched)")  # fmt: skip
    parser.add_argument(
        "--data-root",
        metavar="FOLDER",
        help="folder that the released tables were fetched to (default: $MILBENCH_DATA)",
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ask the servers again instead of reading answers kept from an earlier call",
    )
    add_network_flags(parser, "cbioportal", "gdc")


def call(options: argparse.Namespace) -> int:
    """Exit code of making the label table."""
    import shutil

    from milbench.acquire.build import Sources, build_labels
    from milbench.acquire.cbioportal import checked_study

    if options.top_genes is not None and options.top_genes < 1:
        raise UsageError(f"--top-genes takes a number from 1 up; got {options.top_genes}.")
    if not (options.genes or options.top_genes or options.endpoints):
        raise UsageError("nothing was named to make labels of. Give --genes, --top-genes or --endpoints.")
    folder = options.out or Path("labels") / "+".join(map(checked_study, options.study))
    cache = folder / ".answers"
    usual = Sources()
    sources = Sources(address(options.cbioportal_url) or usual.cbioportal, address(options.gdc_url) or usual.gdc)
    try:
        if options.refresh:
            shutil.rmtree(cache, ignore_errors=True)
        with client_of(options, cache) as client:
            built = build_labels(
                client,
                options.study,
                folder,
                genes=options.genes or (),
                top=options.top_genes or 0,
                endpoints=options.endpoints,
                projects=options.project,
                released=options.compare or _fetched_table(options),
                sources=sources,
            )
    except OSError as error:
        raise disk_error(error) from error
    say(built.report)
    tasks = "tasks.yaml, " if options.endpoints else ""
    say(f"\nwrote labels.csv, {tasks}manifest.txt and report.txt in {built.folder}")
    if options.endpoints:
        say("copy tasks.yaml into the cohort.yaml that names labels.csv")
    say("the servers' answers are kept in .answers there; give --refresh to ask again")
    say(f"slides: gdc-client download -m {built.folder / 'manifest.txt'}")
    return EXIT_OK


def _fetched_table(options: argparse.Namespace) -> Path | None:
    """The released table of the cohort that has exactly these studies, if it was fetched."""
    from milbench.acquire.released import TABLES

    root = data_root_of(options)
    paths = [root / table.name / "labels.csv" for table in TABLES if root and set(table.studies) == set(options.study)]
    return next((path for path in paths if path.exists()), None)
