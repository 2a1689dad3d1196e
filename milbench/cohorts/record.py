"""Record: what a run folder remembers of a cohort's feature files, and the fingerprint that follows from it.

A fingerprint names the content under which the folder has first seen it. If the files hold something else later, and
the fingerprint has not noticed, the cohort gets another one, made of both: its trials are new, and those of the former
content are found again when that comes back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from milbench.cohorts.cohort import Cohort
from milbench.cohorts.content import FileState, SlideContent, content_sha256, contents
from milbench.errors import StoreError
from milbench.store.files import json_bytes, read


@dataclass(frozen=True)
class ContentRecord:
    """What is known of the content of a cohort's feature files.

    Attributes
    ----------
    slides : content by slide id, as last seen.
    first : by fingerprint, the hash of all content under which it was first seen.
    """

    slides: Mapping[str, SlideContent] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, fingerprint: str, content: str) -> str:
        """The fingerprint of a cohort that holds `content`: its own, unless it was first seen with another content."""
        if self.first.get(fingerprint, content) == content:
            return fingerprint
        return hashlib.sha256(f"{fingerprint}{content}".encode()).hexdigest()

    def to_json(self) -> bytes:
        """The record as a run folder keeps it."""
        slides = {slide: {"files": found.files, "sha256": found.sha256} for slide, found in self.slides.items()}
        return json_bytes({"first": dict(self.first), "slides": slides})


@dataclass(frozen=True)
class Seen:
    """A cohort under the fingerprint of its content, and the record that now holds that content."""

    cohort: Cohort
    record: ContentRecord


def see(
    cohort: Cohort, before: ContentRecord, known: Mapping[str, SlideContent], *, on_any_machine: bool = False
) -> Seen:
    """The cohort as its files are now; raises as `contents`.

    Parameters
    ----------
    before : what the run folder remembers.
    known : content of files that need not be read again if their state is the same.
    on_any_machine : see `contents`.
    """
    slides = [str(slide) for slide in cohort.by_slide.slides["slide_id"]]
    found = contents({slide: cohort.files[slide] for slide in slides}, known, on_any_machine=on_any_machine)
    content = content_sha256(found, slides)
    record = ContentRecord({**before.slides, **found}, {cohort.fingerprint: content, **before.first})
    return Seen(replace(cohort, fingerprint=before.name_of(cohort.fingerprint, content)), record)


def as_recorded(cohort: Cohort, path: Path) -> Cohort:
    """The cohort under the fingerprint that a run folder's record gives it; unchanged if there is none."""
    if not cohort.files or not path.exists():
        return cohort
    record = read_record(path)
    return see(cohort, record, record.slides, on_any_machine=True).cohort


def read_record(path: Path) -> ContentRecord:
    """The record at `path`; an empty one if there is none.

    Raises
    ------
    StoreError : it is damaged.
    """
    found: ContentRecord = read(path, _parsed) if path.exists() else ContentRecord()
    return found


def remembered_beside(paths: Iterable[Path]) -> dict[str, SlideContent]:
    """Contents that other run folders remember, if they do: whose file is as it was there need not be read for this one."""
    known: dict[str, SlideContent] = {}
    for path in paths:
        try:
            known |= read_record(path).slides
        except StoreError:  # whoever works in that folder is told
            continue
    return known


def _parsed(text: str) -> ContentRecord:
    try:
        told: Any = json.loads(text)
        slides = {
            str(slide): SlideContent(tuple(map(_state, each["files"])), _hash(each["sha256"]))
            for slide, each in told["slides"].items()
        }
        return ContentRecord(slides, {_hash(name): _hash(content) for name, content in told["first"].items()})
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it holds no record of feature files") from error


def _state(told: list[Any]) -> FileState:
    path, size, mtime_ns, inode = told
    return FileState(str(path), int(size), int(mtime_ns), int(inode))


def _hash(told: Any) -> str:
    if not isinstance(told, str) or len(told) != 64:
        raise ValueError("it holds no record of feature files")
    return told
