"""The network: flags of commands that ask servers, and the client that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.errors import AcquireError, UsageError

if TYPE_CHECKING:
    from milbench.acquire.http import Http


MOST_SECONDS, MOST_RETRIES = 3600, 1000


def add_network_flags(parser: argparse.ArgumentParser, *servers: str) -> None:
    """Put the flags of the network on `parser`, with an address per server."""
    network = parser.add_argument_group("network")
    network.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="longest silence of a server, per try (default 60)",
    )
    network.add_argument("--retries", type=int, default=5, metavar="N", help="tries after the first one (default 5)")
    for server in servers:
        network.add_argument(f"--{server}-url", metavar="URL", help="for mirrors and private instances")


def client_of(options: argparse.Namespace, cache: Path | None = None) -> Http:
    """A client with the timeout and retries that flags give; `cache` keeps answers."""
    from milbench.acquire.http import Http

    if not 0 < options.timeout <= MOST_SECONDS or not 0 <= options.retries <= MOST_RETRIES:
        raise UsageError(
            f"--timeout takes seconds above 0, at most {MOST_SECONDS}; --retries a number from 0 up, at most {MOST_RETRIES}."
        )
    return Http(timeout=options.timeout, retries=options.retries, cache=cache)


def address(given: str | None) -> str:
    """The address without a slash at its end; "" if none was given."""
    if given and not given.startswith(("http://", "https://")):
        raise UsageError(f"'{given}' is no address. Write http://... or https://...")
    return (given or "").rstrip("/")


def disk_error(error: OSError) -> AcquireError:
    """Message on a file that cannot be read or written."""
    return AcquireError(
        f"{error.filename or 'a file'} cannot be read or written ({error.strerror or error}). Check the folder's rights "
        "and the free space, and give the same command again: finished files are kept."
    )
