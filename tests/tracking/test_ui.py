"""The UI: on this machine only, with links that open what is meant."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from commands_for_tests import command as milbench_command
from commands_for_tests import environment
from tracked_for_tests import stored

from milbench.errors import TrackingError, UsageError
from milbench.store.run import Run
from milbench.tracking.client import default_uri
from milbench.tracking.publish import publish
from milbench.tracking.publisher import BEST_FIRST, KIND
from milbench.tracking.ui import _end, serve, ui_command, ui_links

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, on import and on use


def test_the_ui_is_served_on_the_loopback_address_only(tmp_path: Path) -> None:
    command = ui_command("sqlite:///x.db", 5001)
    assert command[:4] == [sys.executable, "-m", "milbench.tracking.served", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_the_links_name_the_run_list_and_the_comparison_of_all_models(run: Run) -> None:
    uri = default_uri(run.path.parent)
    publish(run, uri)
    lines = ui_links(uri, 5001)
    parents = [r.info.run_id for r in stored(run) if r.data.tags[KIND] == "parent"]
    assert lines[0].startswith("milbench toy, parents and trials: http://127.0.0.1:5001/#/experiments/")
    assert lines[1].endswith(f"viewStateShareKey={BEST_FIRST}")
    assert "2 models compared" in lines[2]
    assert all(run_id in lines[2] for run_id in parents)
    with pytest.raises(TrackingError, match="nothing has been tracked"):
        ui_links(default_uri(run.path.parent / "elsewhere"), 5001)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def test_a_port_that_is_taken_is_told_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} .* Give another one with --port"):
            serve("sqlite:///x.db", port, [], print)
    for port in (0, -1, 70000):
        with pytest.raises(UsageError, match="from 1 to 65535"):
            serve("sqlite:///x.db", port, [], print)


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_and_no_link_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with pytest.raises(TrackingError, match=r"ended with code \d+ before it answered"):
        serve("nonsense://x", free_port(), ["a link"], said.append)
    assert said == []
    capfd.readouterr()


SERVING = """
import subprocess, sys, types
cli = lambda **_: subprocess.run([sys.executable, "-c", "import signal, time; {deaf}print('up', flush=True); time.sleep(600)"])
sys.modules["mlflow"], sys.modules["mlflow.cli"] = types.ModuleType("mlflow"), types.SimpleNamespace(cli=cli)
from milbench.tracking.served import main
main()
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "


@pytest.mark.parametrize("deaf", ["", DEAF], ids=["", "to SIGTERM"])
def test_what_is_served_ends_with_the_standard_input(deaf: str) -> None:
    code = SERVING.format(deaf=deaf)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, "-c", code], **pipes, start_new_session=True)
    assert server.stdout is not None
    assert server.stdout.readline() == b"up\n"
    (served,) = psutil.Process(server.pid).children()
    began = time.monotonic()
    _end(server)
    assert time.monotonic() - began < 10
    assert wait_until(lambda: not is_alive(served))
    server.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_parent_however_that_ends(run: Run, way: signal.Signals) -> None:
    publish(run, default_uri(run.path.parent))
    port = free_port()
    words = milbench_command("ui", "--uri", default_uri(run.path.parent), "--port", str(port))
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        assert any("parents and trials" in line for line in parent.stdout)
        assert urlopen(f"http://127.0.0.1:{port}/health").status == 200, "links are printed once it answers"
        servers = psutil.Process(parent.pid).children(recursive=True)
        assert servers
        os.kill(parent.pid, way)
        assert wait_until(lambda: not any(is_alive(server) for server in servers))
        parent.stdout.read()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
