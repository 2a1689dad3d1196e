"""Private: sections without the user's name, home folder and host, since they are pasted into issues that all may read."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from milbench.commands.doctor.section import Remark, Section
from milbench.visible import without_passwords

EVERYBODY = frozenset({"root", "user", "nobody", "localhost", "ubuntu", "vm"})
"""Names that tell nobody, and that stand in other words' place."""


class Names(NamedTuple):
    """What must not be shown."""

    homes: tuple[str, ...]
    users: tuple[str, ...]
    hosts: tuple[str, ...]


def private(sections: Sequence[Section], names: Names | None = None) -> list[Section]:
    """The sections, with `~` for the home folder, USER and HOST for names, and no password in an address."""
    hide = hiding(names or names_here())
    return [
        replace(
            section,
            text=hide(section.text),
            values=_hidden(section.values, hide),
            broken=tuple(Remark(hide(what), hide(fix)) for what, fix in section.broken),
            notes=tuple(Remark(hide(what), hide(fix)) for what, fix in section.notes),
        )
        for section in sections
    ]


def names_here() -> Names:
    """The names of this process's user, home folders and host; without asking a name server, which may hang."""
    homes, users, hosts = (
        {os.environ.get("HOME", "")},
        {os.environ.get("USER", ""), os.environ.get("LOGNAME", "")},
        set(),
    )
    with suppress(Exception):  # a container may have no entry for its user, and Windows no such module
        import pwd

        entry = pwd.getpwuid(os.getuid())
        homes.add(entry.pw_dir)
        users.add(entry.pw_name)
    with suppress(OSError):
        hosts = {socket.gethostname(), socket.gethostname().partition(".")[0]}
    homes |= {str(Path(home).resolve()) for home in homes if home}
    return Names(_longest_first(homes - {"", "/"}), _longest_first(users - {""}), _longest_first(hosts - {""}))


def hiding(names: Names) -> Callable[[str], str]:
    """A function that takes the names out of a text."""
    homes = [(re.compile(rf"{re.escape(home.rstrip('/'))}(?![\w-])"), "~") for home in names.homes]
    words = [(name, "USER") for name in names.users] + [(name, "HOST") for name in names.hosts]
    others = [(_whole(name), to) for name, to in words if name.lower() not in EVERYBODY]

    def hide(text: str) -> str:
        for pattern, to in (*homes, *others):
            text = pattern.sub(to, text)
        return without_passwords(text)

    return hide


def _whole(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-zA-Z0-9]){re.escape(name)}(?![a-zA-Z0-9])", re.IGNORECASE)


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {key: _hidden(each, hide) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(each, hide) for each in value]
    return value


def _longest_first(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (-len(name), name)))
