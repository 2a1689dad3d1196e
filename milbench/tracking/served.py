"""Served: MLflow's command line in a process that ends with the one that started it.

`python -m milbench.tracking.served ui --port 5000`. Whoever starts it holds the other end of its standard input. The
system closes that end when the holder ends, killed or not; then MLflow and its servers end too. A signal at the
parent's death would be Linux's alone, and would reach the first process only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import psutil

END_SECONDS = 2.0
"""For the servers to end by themselves, before they are killed."""


def main() -> None:
    """Run MLflow's command line with our arguments until it ends, or until the standard input does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from mlflow.cli import cli

    cli(prog_name="mlflow")


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    servers = psutil.Process().children(recursive=True)
    for server in servers:
        server.terminate()
    _, alive = psutil.wait_procs(servers, timeout=END_SECONDS)
    for server in alive:
        server.kill()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with one that was being started while the others were counted
    os._exit(0)


if __name__ == "__main__":
    main()
