"""Page: all sections as one screen of plain text, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from textwrap import fill

from milbench.commands.doctor.section import Remark, Section

FORMAT = 1
"""Version of the JSON, raised when a key is renamed or goes."""

WIDTH = 118
"""Characters per line: what an issue's code block shows without a scroll bar."""


def as_text(sections: Sequence[Section]) -> str:
    """A labelled paragraph per section, then what is worth knowing, then what is broken."""
    longest = max(len(section.name) for section in sections) + 2
    return "\n".join(
        [
            *(_paragraph(section.name.ljust(longest), section.text) for section in sections),
            *(_paragraph("note: ", f"{what} {fix}") for what, fix in notes_of(sections)),
            *_ending(broken_of(sections)),
        ]
    )


def as_json(sections: Sequence[Section]) -> str:
    """The same as plain values."""
    return json.dumps(
        {
            "format": FORMAT,
            "sections": {section.name: dict(section.values) for section in sections},
            "notes": [remark._asdict() for remark in notes_of(sections)],
            "broken": [remark._asdict() for remark in broken_of(sections)],
        },
        indent=1,
    )


def notes_of(sections: Sequence[Section]) -> list[Remark]:
    """What works and is worth knowing."""
    return [remark for section in sections for remark in section.notes]


def broken_of(sections: Sequence[Section]) -> list[Remark]:
    """What does not work."""
    return [remark for section in sections for remark in section.broken]


def _ending(broken: Sequence[Remark]) -> Iterator[str]:
    if not broken:
        yield "Nothing is broken."
    for number, remark in enumerate(broken, start=1):
        yield _paragraph(f"broken {number}: ", remark.what)
        yield _paragraph("  fix: ", remark.fix)


def _paragraph(label: str, text: str) -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
