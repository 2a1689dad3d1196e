"""`milbench bundle`: a finished run as a folder or zip that a reader can check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.commands.chosen_run import run_at
from milbench.commands.command import EXIT_OK
from milbench.commands.draws import add_draws_flag, draws_of
from milbench.commands.terminal import say, warn
from milbench.errors import UsageError

if TYPE_CHECKING:
    from milbench.bundles.pseudonyms import Pseudonyms

HELP = "write a finished run to a folder or zip that a reader can check, without features or names of this machine"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Put the flags of `milbench bundle` on `parser`."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="run folder (default: the newest in runs/)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.zip|FOLDER", help="what to write (default: bundles/<name of the run>.zip)"
    )
    parser.add_argument("--anonymise", action="store_true",
                        help="replace ids of slides and patients by keyed hashes; the key lies beside the bundle, not in it")  # fmt: skip
    parser.add_argument("--salt", type=Path, metavar="FILE",
                        help="key of the hashes, made if it is not there (default: beside the bundle)")  # fmt: skip
    parser.add_argument(
        "--title", default="", metavar="TEXT", help="title for the report and the citation (default: the run's name)"
    )
    parser.add_argument(
        "--author", action="append", default=[], metavar="NAME", help="author to cite; may be given several times"
    )
    parser.add_argument(
        "--licence", default="", metavar="TEXT", help="licence of the data, such as CC-BY-4.0 (default: not declared)"
    )
    parser.add_argument("--weights", action="store_true", help="put the trained weights in too")
    parser.add_argument(
        "--reference", metavar="MODEL", help="the model that the report compares others with (default amil)"
    )
    parser.add_argument(
        "--highlight", metavar="MODEL", default="", help="the model that figures draw thicker than the others"
    )
    add_draws_flag(parser)
    parser.add_argument(
        "--complete-cases", action="store_true", help="leave tasks that not all models finished out of means"
    )


def call(options: argparse.Namespace) -> int:
    """Exit code of writing the bundle."""
    from milbench.report.fewer_imports import import_little

    import_little()
    from milbench.bundles.bundle import Wishes, bundle
    from milbench.bundles.layout import NOT_DECLARED
    from milbench.report import REFERENCE

    draws = draws_of(options)
    run = run_at(options.run)
    out = options.out or Path("bundles") / f"{run.path.absolute().name}.zip"
    salt = _salt_file(options, out)
    wishes = Wishes(
        title=options.title, authors=tuple(options.author), licence=options.licence or NOT_DECLARED,
        reference=options.reference or REFERENCE, highlight=options.highlight, draws=draws,
        complete_cases=options.complete_cases, weights=options.weights, pseudonyms=_pseudonyms(salt),
    )  # fmt: skip
    seal = bundle(run, out, wishes)
    if not options.licence:
        warn("the bundle says that the licence of the data is not declared. Add --licence if you know it.")
    if salt:
        say(f"key of the ids: {salt}. Keep it, and do not give it away: with it ids can be guessed and checked.")
    say(f"seal: {seal}")
    say(f"bundle: {out}")
    say(f"check it: milbench verify {out}")
    return EXIT_OK


def _salt_file(options: argparse.Namespace, out: Path) -> Path | None:
    if not options.anonymise:
        if options.salt:
            raise UsageError(
                "--salt is the key of --anonymise, which was not asked for. Add --anonymise, or leave --salt away."
            )
        return None
    beside = out.absolute()
    salt: Path = options.salt or out.with_name(f"{out.name.removesuffix('.zip')}.salt")
    if salt.absolute().is_relative_to(beside):
        raise UsageError(f"{salt} would lie in the bundle. Choose another place with --salt.")
    return salt


def _pseudonyms(salt: Path | None) -> Pseudonyms | None:
    from milbench.bundles.pseudonyms import salt_in

    return salt_in(salt) if salt else None
