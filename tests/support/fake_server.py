"""A server on the loopback address that behaves as cBioPortal, the GDC, a Git LFS store and a folder of tables do.

`server.fail("files", 429, "drop")` makes the next two requests whose address holds "files" go wrong; the ways to go
wrong are the cases of `Handler.fail`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DRIP_SECONDS = 0.05
STUDY = "toy_tcga_pan_can_atlas_2018"


class FakeServer(ThreadingHTTPServer):
    """What it knows is plain data; a test changes it before it asks."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.failures: dict[str, list[Any]] = defaultdict(list)
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.closing = threading.Event()
        self.sent_without_end = 0
        self.files: dict[str, bytes] = {}
        """Bodies by address: label tables, LFS objects."""
        self.refused_objects: set[str] = set()
        self.genes = {"TP53": 7157, "PIK3CA": 5290, "KMT2D": 8085}
        self.sequenced = {STUDY: [f"TCGA-AA-000{n}-01" for n in range(1, 6)] + ["TCGA-AA-0001-06"]}
        self.mutations = {STUDY: default_mutations()}
        self.attributes: dict[str, bool] = {}
        """Whether each clinical attribute is one of patients, else of samples."""
        self.clinical: list[dict[str, Any]] = []
        self.slides = [gdc_slide(n) for n in range(1, 8)]
        self.page_shift = 0
        """How far a later page of the GDC begins off its place, as an unstable order makes it."""

    def fail(self, where: str, *how: Any) -> None:
        self.failures[where] += how

    def how_to_fail(self, path: str) -> Any:
        return next((how.pop(0) for where, how in self.failures.items() if where in path and how), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of the tests."""


@contextmanager
def running() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def default_mutations() -> list[dict[str, Any]]:
    """Patient 1: TP53 twice, and PIK3CA in the metastasis only; patient 2: PIK3CA; patient 6 was not sequenced."""
    return [
        mutation("TCGA-AA-0001-01", 7157, "Missense_Mutation", 100),
        mutation("TCGA-AA-0001-01", 7157, "Nonsense_Mutation", 200),
        mutation("TCGA-AA-0001-06", 5290, "Missense_Mutation", 300),
        mutation("TCGA-AA-0002-01", 5290, "Missense_Mutation", 300),
        mutation("TCGA-AA-0003-01", 7157, "Frame_Shift_Del", 150),
        mutation("TCGA-AA-0006-01", 7157, "Missense_Mutation", 100),
    ]


def mutation(sample: str, entrez: int, kind: str, start: int) -> dict[str, Any]:
    key = base64.b64encode(f"{sample}:{STUDY}".encode()).decode()
    return {"uniqueSampleKey": key, "sampleId": sample, "patientId": sample[:12], "entrezGeneId": entrez,
            "studyId": STUDY, "mutationType": kind, "startPosition": start, "variantAllele": "T"}  # fmt: skip


def of_patient(patient: int, attribute: str, value: str) -> dict[str, Any]:
    return {"patientId": f"TCGA-AA-{patient:04d}", "clinicalAttributeId": attribute, "value": value}


def of_sample(patient: int, attribute: str, value: str, kind: str = "01") -> dict[str, Any]:
    return {**of_patient(patient, attribute, value), "sampleId": f"TCGA-AA-{patient:04d}-{kind}"}


def gdc_slide(patient: int, slide: int = 1) -> dict[str, Any]:
    name = f"TCGA-AA-{patient:04d}-01Z-00-DX{slide}.{patient:08d}-0000.svs"
    return {"id": f"uuid-{patient}-{slide}", "file_id": f"uuid-{patient}-{slide}", "file_name": name, "md5sum": "0" * 32,
            "file_size": 1_000_000 + patient, "state": "released", "access": "open",
            "cases": [{"submitter_id": name[:12]}], "project": "TCGA-TOY"}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        try:
            self.answer(json.loads(self.rfile.read(length)))
        except ValueError:
            self.send_json({"message": "There is an error in the JSON format of the request payload"}, 400)

    def answer(self, body: Any) -> None:
        self.server.asked.append(self.path)
        how = self.server.how_to_fail(self.path)
        if how is None or how == "truncate":
            self.route(body, truncate=how == "truncate")
        else:
            self.fail(how)

    def fail(self, how: Any) -> None:
        match how:
            case "drop":
                self.close_connection = True
            case "slow":
                self.server.closing.wait(1.5)
                self.close_connection = True
            case int():
                self.send_json({"message": f"made to fail with {how}"}, how, {"Retry-After": "1"} if how == 429 else {})
            case bytes():
                self.send_body(how)
            case ("endless", status):
                self.send_without_end(status, b"x" * 1_000_000, pause=0)
            case ("drip", status):
                self.send_without_end(status, b"x", pause=DRIP_SECONDS)
            case ("to", address):
                self.send_json({}, 302, {"Location": address})
            case "drip head":
                self.write_without_end(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", DRIP_SECONDS)
            case _:
                raise AssertionError(how)

    def send_without_end(self, status: int, piece: bytes, *, pause: float) -> None:
        """A body without a stated length; a redirection leads to where it is already."""
        location = f"Location: {self.path}\r\n" if status in (301, 302, 307) else ""
        self.write_without_end(f"HTTP/1.1 {status} Made\r\n{location}\r\n".encode(), piece, pause)

    def write_without_end(self, start: bytes, piece: bytes, pause: float) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client has had enough
            self.wfile.write(start)
            while not self.server.closing.wait(pause):
                self.wfile.write(piece)
                self.server.sent_without_end += len(piece)

    def route(self, body: Any, *, truncate: bool) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path in self.server.files:
            self.send_file(self.server.files[path], truncate=truncate)
        elif path.endswith("/objects/batch"):
            self.send_json(self.lfs_batch(body))
        elif path == "/files":
            self.send_json(self.gdc_files(body))
        else:
            self.cbioportal(path.removeprefix("/api/").split("/"), query, body)

    # ---- cBioPortal ------------------------------------------------------------------------------

    def cbioportal(self, parts: list[str], query: dict[str, list[str]], body: Any) -> None:
        match parts:
            case ["studies", study, _] if study not in self.server.sequenced:
                self.send_json({"message": f"Study not found: {study}"}, 404)
            case ["studies", study, "molecular-profiles"]:
                kinds = {"MUTATION_EXTENDED": "mutations", "COPY_NUMBER_ALTERATION": "gistic"}
                self.send_json([{"molecularAlterationType": kind, "molecularProfileId": f"{study}_{name}"}
                                for kind, name in kinds.items()])  # fmt: skip
            case ["studies", study, "sample-lists"]:
                kinds = {"all": "all_cases_in_study", "sequenced": "all_cases_with_mutation_data"}
                self.send_json([{"sampleListId": f"{study}_{name}", "category": kind} for name, kind in kinds.items()])
            case ["studies", study, "clinical-attributes"]:
                self.send_json([{"clinicalAttributeId": name, "patientAttribute": of_patients, "studyId": study}
                                for name, of_patients in self.server.attributes.items()])  # fmt: skip
            case ["studies", study, "clinical-data"]:
                self.send_json(self.clinical_data(study, query))
            case ["sample-lists", name, "sample-ids"]:
                self.send_json(self.server.sequenced[name.removesuffix("_sequenced")])
            case ["genes", "fetch"]:
                assert query["geneIdType"] == ["HUGO_GENE_SYMBOL"]
                known = self.server.genes
                self.send_json([{"entrezGeneId": known[s], "hugoGeneSymbol": s} for s in body if s in known])
            case ["mutated-genes", "fetch"]:
                self.send_json([self.count(symbol, body["studyIds"]) for symbol in self.server.genes])
            case ["molecular-profiles", profile, "mutations", "fetch"]:
                self.send_json(*self.mutations(profile.removesuffix("_mutations"), query, body))
            case _:
                self.send_json({"message": f"no such route: {parts}"}, 404)

    def count(self, symbol: str, studies: list[str]) -> dict[str, Any]:
        entrez = self.server.genes[symbol]
        samples = {m["sampleId"] for s in studies for m in self.server.mutations[s] if m["entrezGeneId"] == entrez}
        return {"entrezGeneId": entrez, "hugoGeneSymbol": symbol, "numberOfAlteredCases": len(samples)}

    def mutations(self, study: str, query: dict[str, list[str]], body: Any) -> tuple[Any, int]:
        if ("sampleListId" in body) == ("sampleIds" in body):
            return {"message": "either sampleListId or sampleIds"}, 400
        found = [m for m in self.server.mutations[study] if m["entrezGeneId"] in body["entrezGeneIds"]]
        size, page = int(query["pageSize"][0]), int(query["pageNumber"][0])
        return found[page * size : (page + 1) * size], 200

    def clinical_data(self, study: str, query: dict[str, list[str]]) -> Any:
        found = [
            row
            for row in self.server.clinical
            if [row["clinicalAttributeId"]] == query["attributeId"]
            and query["clinicalDataType"] == ["SAMPLE" if "sampleId" in row else "PATIENT"]
        ]
        size, page = int(query["pageSize"][0]), int(query["pageNumber"][0])
        return [{**row, "studyId": study} for row in found[page * size : (page + 1) * size]]

    # ---- GDC and Git LFS -------------------------------------------------------------------------

    def gdc_files(self, body: Any) -> Any:
        wanted = {one["content"]["field"]: one["content"]["value"] for one in body["filters"]["content"]}
        found = [s for s in self.server.slides if s["project"] in wanted["cases.project.project_id"]]
        start = body["from"] + (self.server.page_shift if body["from"] else 0)
        hits = [
            {k: v for k, v in slide.items() if k != "project"}
            for slide in sorted(found, key=lambda s: s["file_id"])[start : start + body["size"]]
        ]
        pages = {"count": len(hits), "total": len(found), "size": body["size"], "from": body["from"]}
        return {"data": {"hits": hits, "pagination": pages}, "warnings": {}}

    def lfs_batch(self, body: Any) -> Any:
        assert self.headers["Accept"] == self.headers["Content-Type"] == "application/vnd.git-lfs+json"
        return {"transfer": "basic", "objects": [self.lfs_object(one["oid"], one["size"]) for one in body["objects"]]}

    def lfs_object(self, oid: str, size: int) -> Any:
        if oid in self.server.refused_objects:
            return {"oid": oid, "size": size, "error": {"code": 404, "message": "Object does not exist"}}
        action = {"href": f"{self.server.url}/object/{oid}", "header": {"X-Signed": "yes"}}
        return {"oid": oid, "size": size, "actions": {"download": action}}

    # ---- answers ---------------------------------------------------------------------------------

    def send_file(self, body: bytes, *, truncate: bool) -> None:
        ranged = self.headers.get("Range")
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged else 0
        if ranged:
            self.server.ranges.append(ranged)
        head = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if ranged else {}
        self.send_body(body[start:], 206 if ranged else 200, head, truncate=truncate)

    def send_json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_body(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send_body(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None, *, truncate: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if truncate else body)
        self.close_connection = self.close_connection or truncate
