"""Child: a script beside this file, run as a process of its own, so that what crashes or hangs there stays there.

The scripts import the standard library alone and whatever they try: milbench may not be on their path. They tell what they
find line by line, and each thing before they try it: what was told last names the culprit.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

MARK = "milbench-doctor:"
"""Begins a line of a script: libraries print on standard output what they like."""


class Told(NamedTuple):
    """What a script told, line by line, and how it ended before its end; "" if it did not."""

    lines: list[dict[str, Any]]
    ended: str


def run_script(script: str, *words: str, seconds: float) -> Told:
    """What the script of that name tells, if it is given `seconds`."""
    # -P: no file beside the script, or in the folder that the user stands in, is imported for a library
    command = [sys.executable, "-P", str(Path(__file__).with_name(script)), MARK, *words]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)  # noqa: S603 - our own words
    except subprocess.TimeoutExpired as late:
        return Told(_lines(late.stdout or b""), f"no end after {seconds:g} s")
    return Told(_lines(done.stdout), _how(done.returncode, done.stderr))


def _lines(output: bytes) -> list[dict[str, Any]]:
    text = output.decode("utf-8", "replace").splitlines()
    return [json.loads(line.removeprefix(MARK)) for line in text if line.startswith(MARK)]


def _how(code: int, errors: bytes) -> str:
    if code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"the process was killed by {names.get(-code, f'signal {-code}')}"
    last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
    return ": ".join([f"the process ended with exit code {code}", *last]) if code else ""
