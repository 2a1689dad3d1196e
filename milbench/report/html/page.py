"""`PageData` -> `index.html` and the one script file beside it."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from milbench.report.html.data import PageData, RunFacts
from milbench.report.html.payload import blocks, to_json
from milbench.report.html.sections import link, section
from milbench.report.html.summary import sentences
from milbench.store.files import write_atomically, writing
from milbench.visible import visible

PLOTLY = "plotly.min.js"
SCRIPTS = (
    "dom.js",
    "data.js",
    "tables.js",
    "views.js",
    "claims.js",
    "figures.js",
    "charts.js",
    "ranks.js",
    "costs.js",
    "curves.js",
    "kinds.js",
    "page.js",
)


def write_page(out: Path, page: PageData) -> Path:
    """`out/index.html`, with `plotly.min.js` beside it: all that a browser needs, without a network.

    Raises
    ------
    StoreError : `out` cannot be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_script(out)
        return write_index(out, render(page))


def write_script(out: Path) -> None:
    """Write `plotly.min.js`, which the page's charts need; raises `OSError`."""
    write_atomically(out / PLOTLY, _plotly())


def write_index(out: Path, text: str) -> Path:
    """`out/index.html` with the text that `render` gives; raises `OSError`."""
    write_atomically(out / "index.html", text.encode())
    return out / "index.html"


def render(page: PageData) -> str:
    """The page's text. Equal data give equal text: it names no time, no machine, and no path except in its commands."""
    data = "\n".join(
        f'<script type="application/json" id="data-{name}">{to_json(block)}</script>'
        for name, block in blocks(page).items()
    )
    tuning = section("tuning", "Tuning", page.tuning_tables, page.tuning_pictures)
    sharing = section("sharing", "Sharing", page.sharing, ())
    parts = {
        "TITLE": _escaped(page.title),
        "STYLE": asset("page.css"),
        "SUMMARY": "\n".join(f"<p>{_escaped(sentence)}</p>" for sentence in sentences(page)),
        "NOTES": _notes(page.notes),
        "SHARING": sharing,
        "SHARING_LINK": link("sharing", "Sharing", sharing),
        "TUNING": tuning,
        "TUNING_LINK": link("tuning", "Tuning", tuning),
        "PROVENANCE": "\n".join(_provenance(run) for run in page.provenance) or "<p>No run is recorded.</p>",
        "DATA": data,
        "SCRIPT": "\n".join(asset(name) for name in SCRIPTS),
    }
    return _fill(asset("template.html"), parts)


def _fill(template: str, parts: dict[str, str]) -> str:
    """The template with every {{NAME}} replaced, once: what a part holds is never read as a placeholder."""
    pieces = template.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        filled += [parts[name], rest]
    return "".join(filled)


def _escaped(text: str) -> str:
    """`text` as HTML shows it, with nothing hidden."""
    return escape(visible(text))


def _notes(notes: tuple[str, ...]) -> str:
    return "".join(f'<p class="note">{_escaped(note)}</p>\n' for note in notes)


def _provenance(run: RunFacts) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{_escaped(label)}</th><td>{_value(value)}</td></tr>' for label, value in run.facts
    )
    caption = f"Run {_escaped(run.name)}"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_escaped(caption)}">'
        f'<table class="facts"><caption>{caption}</caption>\n<tbody>{rows}</tbody></table></div>'
    )


def _value(value: str) -> str:
    """The value as code; one of many lines is folded away, and unfolded on paper."""
    code = f"<code>{_escaped(value)}</code>"
    return f"<details><summary>{value.count(chr(10)) + 1} lines</summary>{code}</details>" if "\n" in value else code


def asset(name: str) -> str:
    """Text of a file that the page is made of."""
    return files("milbench.report.html").joinpath("assets", name).read_text(encoding="utf-8")


def _plotly() -> bytes:
    """plotly.js as the plotly package ships it (MIT licence, named in its first lines)."""
    return files("plotly").joinpath("package_data", PLOTLY).read_bytes()
