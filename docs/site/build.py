"""The site: pages of the repository and pages made from its code, in `build/site`, with warnings as errors.

    python docs/site/build.py

`tox -e docs` calls it. The pages are laid out in `build/pages` first, in the folders that they have in the repository, so
that a link in them leads to the same page here and on a code host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import api_pages
import command_pages
import format_pages
import key_pages
import links
import message_pages
import metric_pages
import model_pages
import notebook_page
from doors import doors, home, pages_of_doors

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BESIDE = ("CITATION.cff", "LICENSE", "docs/notebook.ipynb")
"""Files that pages link to."""

PICTURES = ("docs/images", "reports/digits/radar_digits.png")
MADE = {
    "commands": command_pages,
    "keys": key_pages,
    "messages": message_pages,
    "formats": format_pages,
    "models": model_pages,
    "metrics": metric_pages,
    "api": api_pages,
}
"""Who makes the pages that `doors.yaml` calls by these names; the navigation lists the first of each."""


def lay_out(pages: Path) -> None:
    """Fill the folder `pages` with all that the site is made of."""
    shutil.rmtree(pages, ignore_errors=True)
    for name in (*BESIDE, *PICTURES):
        _copy(ROOT / name, pages / name)
    made = {name: room.pages() for name, room in MADE.items()}
    texts = pages_of_doors({name: [next(iter(each))] for name, each in made.items()})
    texts |= {"index.md": home(_text("README.md"))}
    texts |= notebook_page.pages(ROOT / "docs" / "notebook.ipynb", pages / "docs" / "notebook_pictures")
    texts |= {page: _text(page) for door in doors() for page in door.pages if page not in texts}
    for page, text in {**texts, **{page: text for each in made.values() for page, text in each.items()}}.items():
        (pages / page).parent.mkdir(parents=True, exist_ok=True)
        (pages / page).write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def _text(page: str) -> str:
    """A page of the repository; the notebook is a page of its own here, and the README is the first page."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("notebook.ipynb)", "notebook.md)")
    return re.sub(r"(\]\((?:\.\./)*)README\.md", r"\1index.md", text)


def build(out: Path) -> int:
    """Exit code of making the site in `out`; its pages are laid out beside."""
    pages = out.with_name("pages")
    lay_out(pages)
    shutil.rmtree(out, ignore_errors=True)
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--fresh-env", "-q", "-c", str(HERE), "-b", "html"]
    code = subprocess.run([*sphinx, str(pages), str(out)], check=False).returncode
    if code:
        return code
    faults = links.broken(out)
    print("\n".join(faults) or f"{len(links.html_pages(out))} pages in {out}, every link leads somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(build(ROOT / "build" / "site"))
