"""Processes of the command line that need not import torch again: copies of one that has imported it and done nothing else.

::

    pytest   asks: words, folder, environment  >  ready process: imports once, then makes a copy for each that is asked
             output, exit code                 <  copy: runs the command to its end, as a process of its own

A new interpreter takes seconds to import what each of them imports. A copy begins where these imports end: it has
threads, locks, random states and registered models of no test, may be killed, and ends as any process ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TRYOUT = "milbench.runs.tryout"
IMPORTED = (
    "milbench.__main__", TRYOUT, "milbench.commands.run", "milbench.commands.show_run", "milbench.engines.worker",
    "milbench.runs.benchmark", "milbench.runs.ensemble", "milbench.formats.detect", "milbench_baselines",
    "pyarrow.parquet", "torch._dynamo",
)  # fmt: skip
"""What a copy need not import; their imports come along. torch's first step of an optimizer imports the last."""

POLL_SECONDS = 0.005


class ReadyProcess:
    """The process that is copied; started when the first copy is asked for."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float, given: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        """What `python -m words...` would have returned.

        Raises
        ------
        subprocess.TimeoutExpired : it was not over in time, and has been killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            asked = {"words": list(words), "cwd": str(cwd), "env": dict(env), "timeout": timeout, "folder": folder}
            files = {name: Path(folder) / name for name in ("stdin", "stdout", "stderr")}
            files["stdin"].write_bytes(given)
            code = self._answer(asked)
            if code is None:
                raise subprocess.TimeoutExpired(list(words), timeout)
            out, err = (files[name].read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(list(words), code, out, err)

    def _answer(self, asked: Mapping[str, Any]) -> int | None:
        if self._process is None:
            command, pipe = [sys.executable, __file__], subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=self._env)
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code: int | None = json.loads(self._process.stdout.readline())
        except (
            BaseException
        ):  # a test's time is up: the answer that is still to come would be taken for that of the next
            self._process.kill()
            self._process.communicate()
            self._process = None
            raise
        return code

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def for_tryouts(self) -> SimpleNamespace:
        """What `milbench.runs.tryout` finds as `subprocess`, so that it tries models in copies."""

        def run(command: Sequence[str], *, input: bytes, timeout: float, **_: object) -> object:
            words = command[command.index("-m") + 1 :]
            return self.run(words, cwd=Path.cwd(), env=os.environ, timeout=timeout, given=input)

        return as_subprocess(run)


def as_subprocess(run: Any) -> SimpleNamespace:
    return SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)


# ---- inside the ready process ------------------------------------------------------------------------


def serve() -> None:
    """Answer each line of standard input with the exit code of the copy that did what it asks; null if time was up."""
    for name in IMPORTED:
        importlib.import_module(name)
    os.fsync = lambda _: None  # see quick_disk.py
    gc.freeze()  # looking through what the imports made would copy its memory
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            be(asked)
        sys.stdout.write(json.dumps(exit_code(pid, asked["timeout"])) + "\n")
        sys.stdout.flush()


def exit_code(pid: int, timeout: float) -> int | None:
    """As `subprocess` counts: negative for a signal. None if the process was not over in time, and has been killed."""
    deadline = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(POLL_SECONDS)


def be(asked: Mapping[str, Any]) -> None:
    """Become the process that was asked for; ends by `SystemExit`, as that one would."""
    for number, (name, mode) in enumerate((("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))):
        file = os.open(Path(asked["folder"]) / name, mode | os.O_CREAT | os.O_APPEND * bool(number))
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    name, *words = asked["words"]
    sys.path[0], sys.argv = asked["cwd"], [name, *words]
    tryout = importlib.import_module(TRYOUT)
    if name == TRYOUT:
        tryout.main(Path(words[0]), json.load(sys.stdin))
        os._exit(0)
    tryout.subprocess = as_subprocess(tried_in_a_copy)
    # what workers of the command look for is the file that `python -m milbench` runs
    sys.modules["__main__"] = importlib.import_module(f"{name}.__main__")
    sys.modules["__main__"].command()


def tried_in_a_copy(command: Sequence[str], *, input: bytes, timeout: float, **_: object) -> SimpleNamespace:
    """The process that tries models, as a copy of the command's, which has not trained anything yet."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stdin").write_bytes(input)
        words = command[command.index("-m") + 1 :]
        pid = os.fork()
        if pid == 0:
            be({"words": words, "cwd": str(Path.cwd()), "env": dict(os.environ), "folder": folder})
        code = exit_code(pid, timeout)
    if code is None:
        raise subprocess.TimeoutExpired(list(words), timeout)
    return SimpleNamespace(returncode=code)


if __name__ == "__main__":
    serve()
