"""Command line: parse, call one function, print. Heavy imports stay inside the functions."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import milbench
from milbench.commands import (
    bundle,
    check,
    compare,
    data,
    datasets,
    doctor,
    evaluate,
    export,
    features,
    heatmap,
    leaderboard,
    merge,
    models,
    plan,
    predict,
    report,
    reproduce,
    run,
    status,
    track,
    tune,
    ui,
    verify,
)
from milbench.commands.command import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, Command, add_commands
from milbench.commands.output import printing
from milbench.commands.terminal import complain
from milbench.errors import MilbenchError, UsageError, unknown_name
from milbench.visible import shortened

COMMANDS: Mapping[str, Command] = {
    "run": run,
    "tune": tune,
    "plan": plan,
    "reproduce": reproduce,
    "status": status,
    "merge": merge,
    "report": report,
    "heatmap": heatmap,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "bundle": bundle,
    "verify": verify,
    "compare": compare,
    "leaderboard": leaderboard,
    "ui": ui,
    "track": track,
    "models": models,
    "check": check,
    "datasets": datasets,
    "features": features,
    "data": data,
    "doctor": doctor,
}
"""Commands in the order of `milbench --help`, each a file of this room."""

EXAMPLES = """examples:
  milbench run                                         nine models on the embedded digits, about 2 minutes
  milbench run --models amil m4 --cohort my-cohort/    your own features and labels
  milbench run --datasets 'tcga-*' --data-root /data   the five cohorts of the M4 study
  milbench plan --datasets 'tcga-*' --data-root /data  what that would run
  milbench reproduce m4 --data-root /data              all tables and figures of the M4 study
  milbench run --shard 2/4                             a quarter of it on this machine; then `milbench merge`
  milbench features slides/ --encoder retccl --weights retccl.pth --out features/    one file per slide
  milbench report                                      tables and figures of the newest run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of one invocation: 0 done, 2 bad input, 3 some trials failed, 130 interrupted."""
    # else Python ends by looking for garbage among all that torch has imported, for half a second
    atexit.register(gc.freeze)
    words = list(sys.argv[1:] if arguments is None else arguments)
    with printing() as output:
        code = _called(words)
        output.flush()
        if output.failure is None or isinstance(output.failure, BrokenPipeError):  # a reader may leave when it likes
            return code
        complain(
            f"standard output cannot be written ({output.failure.strerror}). What the command prints is lost; what it writes "
            "into its folders is there."
        )
        return code or EXIT_BAD_INPUT


def _called(words: Sequence[str]) -> int:
    try:
        options = _options(words)
        return EXIT_OK if options is None else COMMANDS[options.command].call(options)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        complain(f"{shortened(str(error.filename))}: {error.strerror}. Check the path.")
        return EXIT_BAD_INPUT
    except MilbenchError as error:
        complain(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        complain("stopped. Give the same command again to go on; finished trials are kept.")
        return EXIT_INTERRUPTED


def _options(words: Sequence[str]) -> argparse.Namespace | None:
    """What the words ask for; None where argparse has answered already, as `--help` and `--version`."""
    try:
        return parser().parse_args(words)
    except SystemExit as ended:
        if ended.code:
            raise
        return None


def usable_path(text: str) -> Path:
    """The path, if it can be one; an empty text would be the current folder, and most likely is a variable that is not set."""
    if not text or "\0" in text:
        what = "an empty path" if not text else "a path with a null character"
        raise argparse.ArgumentTypeError(f"{what} names no file or folder. Write it out, or leave the flag away")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """argparse that answers a mistyped command or flag with the nearest known one."""

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **options)
        self.register("type", Path, usable_path)

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}. See `{self.prog} --help`.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options and the words left over, of which there are none: each command's parser refuses them and names its own options."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            raise self._unknown(unknown[0])
        return options, unknown

    def _unknown(self, word: str) -> UsageError:
        from milbench.trials.recipe import SETTINGS

        name, _, value = word.partition("=")
        setting = name.strip("-").replace("-", "_")
        if not word.startswith("-"):
            return UsageError(f"{self.prog} does not know what to do with '{word}'. See `{self.prog} --help`.")
        if self.prog in {"milbench run", "milbench plan"} and setting in SETTINGS:
            return UsageError(
                f"{self.prog} has no {name}, which is a setting: write --set trainer.{setting}={value or '...'}"
            )
        return unknown_name(f"option of {self.prog}", name, self._option_string_actions)


def parser() -> argparse.ArgumentParser:
    """What reads the words of a command; the pages of the commands and the tests of the docs are made from it."""
    top = _Parser(
        prog="milbench",
        description="Fair, leak-free, resumable benchmarks of multiple-instance-learning models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"milbench {milbench.__version__}")
    add_commands(top, COMMANDS, "command")
    return top


if __name__ == "__main__":
    sys.exit(main())
