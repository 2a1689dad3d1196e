"""Scrub: what a run says of the machine that made it, taken out of every text before it travels."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from milbench.bundles.pseudonyms import Pseudonyms
from milbench.store.run import Run

_END = r"\s/\\'\",;:()<>|"
_PATH = re.compile(
    rf"(?<![\w:/.\\<])(?:[A-Za-z]:[\\/]+|~[\w.-]*[\\/]|\\\\|(?:\.\.[\\/])+|/)(?:[^{_END}]+[\\/]+)+([^{_END}]*)"
)
"""A path of some machine in a text: /home/me/x, C:\\data\\x, ~/x, ../me/x. Its last name stays."""
_LOCAL_ADDRESS = re.compile(r"\b[A-Za-z][\w+.-]*:///+(?:[^\s/]+/)*([^\s/]*)")
"""An address without a host, such as file:///home/me/x."""

CONFIG_KEPT = (
    "models", "datasets", "tasks", "protocol", "precision", "folds", "seeds", "trainer", "model", "keep_weights",
    "allow_missing", "tuning",
)  # fmt: skip
"""Settings that decide results. Engine, tracking and folders are of one machine."""
CONFIG_PATHS = ("cohorts", "plugins", "splits")
ENVIRONMENT_KEPT = (
    "run_format", "milbench", "git", "python", "platform", "packages", "cpu", "cores", "memory_bytes", "gpus",
)  # fmt: skip
OF_THE_MACHINE = ("host", "payload_sha256", "id", "key")
"""Entries of trial.json that go, or are made anew."""

SHORTEST_NAME = 4
GENERIC = {"root", "user", "users", "admin", "home", "runner", "ubuntu", "localhost", "docker", "jovyan"}
"""Names that thousands of machines and users have."""


@dataclass(frozen=True)
class Scrubber:
    """What takes names of a machine, and if asked ids of patients, out of values.

    Attributes
    ----------
    machine : names of hosts and users that no file may hold.
    pseudonyms : keyed hashes in place of ids; None = ids stay.
    """

    machine: tuple[str, ...] = ()
    pseudonyms: Pseudonyms | None = None

    def text(self, words: str) -> str:
        """The words without paths, hosts and users.

        >>> Scrubber(("gpu-node-7",)).text("read /home/me/labels.csv on gpu-node-7")
        'read labels.csv on a-machine'
        """
        if is_path(words):
            return last_name(words)
        words = _LOCAL_ADDRESS.sub(r"\1", words)
        words = _PATH.sub(r"\1", words)
        for name in self.machine:
            words = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "a-machine", words)
        return words

    def value(self, value: Any) -> Any:
        """The value with every text in it scrubbed; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(each) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, (list, tuple)) else value

    def _counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Number of slides by value, of values without paths; values that are alike then count together."""
        found: dict[str, int] = {}
        for value, n in counts.items():
            found[self.text(value)] = found.get(self.text(value), 0) + n
        return found

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of run.yaml that decide results; of paths the last name."""
        kept = {key: self.value(config[key]) for key in CONFIG_KEPT if key in config}
        paths = {key: _last_names(config[key]) for key in CONFIG_PATHS if config.get(key)}
        return {**kept, **paths}

    def environment(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """Versions and hardware."""
        return {key: self.value(environment[key]) for key in ENVIRONMENT_KEPT if key in environment}

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's record without its host; key, place and checksums are left out, since they follow from the rest."""
        found = {key: self.value(value) for key, value in record.items() if key not in OF_THE_MACHINE}
        return self.pseudonyms.record(found) if self.pseudonyms else found

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What datasets.json says of a cohort."""
        found: dict[str, Any] = self.value(facts)
        if isinstance(found.get("features"), Mapping):  # what files tell of their making stands in keys
            found["features"] = {fact: self._counts(values) for fact, values in found["features"].items()}
        return self.pseudonyms.facts(found) if self.pseudonyms else found


def is_path(words: str) -> bool:
    """Whether the text as a whole is a path that begins at a root, a home or above a folder."""
    return bool(re.match(r"/.|~[\w.-]*[\\/]|\.\.[\\/]|\\\\|[A-Za-z]:[\\/]", words)) and "\n" not in words


def last_name(path: str) -> str:
    """The last name of a path of any system."""
    return PureWindowsPath(PurePosixPath(path).name).name


def _last_names(paths: Any) -> Any:
    return [last_name(str(path)) for path in paths] if isinstance(paths, (list, tuple)) else last_name(str(paths))


def machine_names(hosts: Iterable[str]) -> tuple[str, ...]:
    """Names of hosts and of this user that are rare enough to be looked for, longest first."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that no name belongs to
        user = ""
    names = {*hosts, socket.gethostname(), socket.gethostname().partition(".")[0], user, os.environ.get("USER", "")}
    return tuple(sorted((each for each in names if _is_rare(each)), key=lambda name: (-len(name), name)))


def _is_rare(name: str) -> bool:
    return len(name) >= SHORTEST_NAME and name.lower() not in GENERIC


def hosts_of(run: Run) -> set[str]:
    """Hosts that computed the run's trials."""
    return {str(trial.info["host"]) for trial in run.trials() if trial.info.get("host")}


def folders_of(run: Run) -> tuple[str, ...]:
    """Folders of this machine that no file of a bundle may name."""
    found = {str(Path.home()), str(run.path.absolute().parent), str(Path.cwd())}
    return tuple(sorted(each for each in found if len(Path(each).parts) > 2))
