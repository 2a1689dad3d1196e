"""Run copy: a run folder that can travel, with what a reader needs and nothing of the machine that made it.

It stays a run folder. A trial whose record changes gets the key that follows from the new record, so that everything that
reads runs reads it, and finds it whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from milbench.bundles.scrub import Scrubber
from milbench.cohorts.tuned import read_tuned
from milbench.names import is_folder_name
from milbench.store.columns import read_parquet_frame
from milbench.store.csv_files import exact_csv
from milbench.store.files import file_sha256, inside, json_bytes, text_table
from milbench.store.identity import recorded_key
from milbench.store.question import Asked, Question, asked_to_json
from milbench.store.run import Run, holds_run, open_run
from milbench.store.run_folder import CHOSEN, CONFIG, DATASETS, ENVIRONMENT, FAILURES, PLAN, QUESTIONS, TUNING, UNTUNED
from milbench.store.slot import trial_id_of
from milbench.store.trial import HISTORY, LAYOUT, PREDICTIONS, TRIAL, WEIGHTS, StoredTrial

NESTED = (TUNING, UNTUNED)
"""Runs inside a tuned run, which its report reads."""


@dataclass(frozen=True)
class RunCopy:
    """One run on its way into a bundle.

    Attributes
    ----------
    run : as it is now, its trials found and verified once.
    to : folder to write.
    weights : whether trained weights go along.
    ids : where the new id of every planned trial is noted, by the old one.
    splits : where the hash of every new split table is noted, by cohort.
    """

    run: Run
    to: Path
    scrubber: Scrubber
    weights: bool = False
    ids: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Write the copy into an empty folder; raises `StoreError` if the run is damaged, `OSError` if it can't be written."""
        self.to.mkdir(parents=True)
        labels = {name: self._tables(name) for name in self.run.datasets}
        for trial in self.run.trials():
            self._trial(trial)
        for old in self.run.planned().values():
            self.ids.setdefault(old, self._unfinished(old))
        self._header(labels)
        for row in self.run.failures():
            self._failure(row)
        self._nested()

    def _header(self, labels: Mapping[str, str]) -> None:
        plan = {self.ids[old].rpartition("-")[0]: self.ids[old] for old in self.run.planned().values()}
        datasets = {name: self._facts(name) for name in self.run.datasets}
        files = {
            ENVIRONMENT: json_bytes(self.scrubber.environment(self.run.environment)),
            DATASETS: json_bytes(datasets),
            PLAN: json_bytes(plan),
            QUESTIONS: json_bytes(asked_to_json({name: self._asked(name, labels) for name in self.run.asked()})),
            CONFIG: yaml.safe_dump(self.scrubber.config(self.run.config), sort_keys=False).encode(),
        }
        for name, content in files.items():
            (self.to / name).write_bytes(content)

    def _facts(self, name: str) -> dict[str, Any]:
        facts = self.scrubber.facts(self.run.datasets[name])
        return {**facts, "split_sha256": self.splits.get(name, facts["split_sha256"])}

    def _asked(self, name: str, labels: Mapping[str, str]) -> Asked:
        """What is asked now; what was asked before is nobody's business."""
        now, names = self.run.asked()[name].now, self.scrubber.pseudonyms
        optional = now.optional_labels_sha256
        question = Question(
            fingerprint=names.hash(now.fingerprint) if names else now.fingerprint,
            split_sha256=self.splits.get(name, now.split_sha256),
            feature_scaling=now.feature_scaling,
            labels_sha256=labels[name],
            models=self.scrubber.value(now.models),
            optional_labels_sha256={task: names.hash(each) for task, each in optional.items()} if names else optional,
        )
        return Asked(question)

    def _tables(self, name: str) -> str:
        """Write the cohort's split and labels; the hash of the labels, "" if the run stored none."""
        if self.run.split_file(name).exists():
            self.splits[name] = self._write_table(self.run.split_file(name), self.run.roles(name), ["patient_id"])
        elif self.scrubber.pseudonyms:
            self.splits[name] = self.scrubber.pseudonyms.hash(self.run.datasets[name]["split_sha256"])
        if not self.run.label_file(name).exists():
            return ""
        self.run.labels(name)  # it is the table that the run was made with, or this raises
        table = text_table(self.run.label_file(name).read_bytes().decode())
        used = [task for task in table.columns[2:] if task in self.run.datasets[name]["tasks"]]
        return self._write_table(
            self.run.label_file(name), table[[*table.columns[:2], *used]], ["slide_id", "patient_id"]
        )

    def _write_table(self, source: Path, table: pd.DataFrame, ids: list[str]) -> str:
        """Write a table with ids at its place in the copy; its hash. With pseudonyms the order of rows is theirs."""
        if self.scrubber.pseudonyms:
            table = table.assign(**{column: table[column].map(self.scrubber.pseudonyms.id) for column in ids})
            table = table.sort_values(ids[0], kind="stable")
        place = self.to / source.relative_to(self.run.path)
        place.parent.mkdir(exist_ok=True)
        content = exact_csv(table).encode()
        if not self.scrubber.pseudonyms and len(table.columns) == len(text_table(source.read_text()).columns):
            content = source.read_bytes()  # its hash stands in every trial's identity
        place.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def _trial(self, trial: StoredTrial) -> None:
        record = self.scrubber.record(trial.info)
        record["split_sha256"] = self.splits.get(record["dataset"], record["split_sha256"])
        record["key"] = recorded_key(record)
        record["id"] = self.ids[trial.id] = trial_id_of(record)
        folder = Run(self.to).trial_folder(record["id"])
        folder.mkdir(parents=True)
        keeps = self.weights and trial.keeps_weights
        for name in (HISTORY, *([WEIGHTS] if keeps else [])):
            shutil.copyfile(trial.path / name, folder / name)
        self._predictions(trial, folder / PREDICTIONS)
        if not keeps:
            record.pop(LAYOUT, None)
        digests = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
        (folder / TRIAL).write_bytes(json_bytes({**record, "payload_sha256": digests}))

    def _predictions(self, trial: StoredTrial, place: Path) -> None:
        """Copy what the trial said; with pseudonyms the slides of a side are in their order, the rows of a slide as before."""
        if self.scrubber.pseudonyms is None:
            shutil.copyfile(trial.path / PREDICTIONS, place)
            return
        rows = read_parquet_frame(trial.path / PREDICTIONS)
        known = {text: self.scrubber.pseudonyms.id(text) for text in {*rows["slide_id"], *rows["patient_id"]}}
        rows = rows.assign(**{column: rows[column].map(known) for column in ("slide_id", "patient_id")})
        side = rows["role"].map({role: number for number, role in enumerate(rows["role"].unique())})
        order = rows.assign(side=side).sort_values(["side", "slide_id"], kind="stable").index
        rows.loc[order].to_parquet(place, index=False)

    def _unfinished(self, old: str) -> str:
        """The id of a trial that is not done: nothing is known that its key could follow from."""
        if self.scrubber.pseudonyms is None:
            return old
        slot, _, digits = old.rpartition("-")
        return f"{slot}-{self.scrubber.pseudonyms.hash(digits)[:8]}"

    def _failure(self, row: Mapping[str, Any]) -> None:
        """Write that a trial failed, without the traceback, which names folders; a message may name slides."""
        message = "left out of an anonymised bundle" if self.scrubber.pseudonyms else self.scrubber.text(row["message"])
        told = {"id": self.ids[row["id"]], "type": row["type"], "message": message}
        place = inside(self.to, FAILURES) / f"{told['id'].rpartition('-')[2]}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(json_bytes(told))

    def _nested(self) -> None:
        """Copy the searches that chose the run's settings, and the trainings that they are compared with."""
        for name in NESTED:
            if holds_run(self.run.path / name):
                inner = open_run(inside(self.run.path, name)).snapshot()
                replace(self, run=inner, to=self.to / name, ids={}, splits={}).write()
        for path in sorted((self.run.path / CHOSEN).glob("*.yaml")):
            if not is_folder_name(path.name) or path.is_symlink():
                continue
            told = read_tuned(path)
            place = self.to / CHOSEN / path.name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(replace(told, command=self.scrubber.text(told.command)).to_yaml().encode())
