"""Links of the finished site: each leads to a file and an anchor of it, and nothing is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""What a browser loads by itself, beside style sheets."""


class _Page(HTMLParser):
    """Anchors of a page, what it links to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])
        self.loaded += [values[key] for key in values if (tag, key) in FETCHED]


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def html_pages(site: Path) -> list[Path]:
    """Pages of the site; what the theme keeps in `_static` are none."""
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts)


def broken(site: Path) -> list[str]:
    """Every link that leads nowhere and everything that is loaded from another host, with its page."""
    return [f"{path.relative_to(site)}: {what}" for path in html_pages(site) for what in _broken(path)]


def _broken(path: Path) -> Iterator[str]:
    page = _read(path)
    for link in page.loaded:
        if urlsplit(link).netloc:
            yield f"loads {link}, and is incomplete without a network"
        elif not _leads_somewhere(path, link):
            yield f"loads {link}, which is not there"
    yield from (f"{link} leads nowhere" for link in page.links if not _leads_somewhere(path, link))


def _leads_somewhere(page: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file():
        return False
    return not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in _read(target).anchors
