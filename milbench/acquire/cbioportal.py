"""Who was sequenced, and which mutations were found: cBioPortal's public REST API.

Routes and fields were read in the portal's sources (cBioPortal/cbioportal@58a7a43) and tried against a local server
that behaves so; no call to the public instance was possible when this was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from milbench.acquire.http import Http
from milbench.errors import AcquireError, UsageError, unknown_name

CBIOPORTAL_URL = "https://www.cbioportal.org/api"
STUDY_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,199}", re.ASCII)
PAGE = 10_000
"""Mutations per request: the portal would send all at once, but a page is kept and need not be asked for again."""


class Gene(NamedTuple):
    """A gene by the portal's number and by name."""

    entrez: int
    symbol: str


class Mutation(NamedTuple):
    """One mutation of one gene in one sample."""

    sample_id: str
    patient_id: str
    entrez: int
    kind: str
    start: int
    allele: str


class Study(NamedTuple):
    """What one study says: the sequenced samples, and the mutations of the genes asked for."""

    study_id: str
    sequenced: list[str]
    mutations: list[Mutation]


def read_study(client: Http, url: str, study_id: str, genes: Sequence[Gene]) -> Study:
    """One study's sequenced samples and its mutations in `genes`, sorted, none twice.

    Raises
    ------
    AcquireError : the study is unknown, has no mutation profile, or the portal cannot be reached.
    """
    sample_list = _sequenced_list(client, url, study_id)
    where = f"{url}/sample-lists/{sample_list}/sample-ids"
    samples = client.json(where, check=lambda answer: _refuse_other_than_ids(where, answer))
    mutations = _mutations(client, url, _mutation_profile(client, url, study_id), sample_list, genes)
    return Study(study_id, sorted(set(samples)), mutations)


def find_genes(client: Http, url: str, symbols: Sequence[str], study_ids: Sequence[str]) -> list[Gene]:
    """The genes of these names, in the order given.

    Raises
    ------
    UsageError : a name that the portal does not know, with the nearest name among the mutated genes of the studies.
    """
    where = f"{url}/genes/fetch?geneIdType=HUGO_GENE_SYMBOL"
    rows = client.rows(where, {"entrezGeneId": int, "hugoGeneSymbol": str}, sorted(set(symbols)))
    known = {row["hugoGeneSymbol"]: Gene(row["entrezGeneId"], row["hugoGeneSymbol"]) for row in rows}
    for symbol in symbols:
        if symbol not in known:
            raise _unknown_gene(client, url, symbol, study_ids)
    genes = [known[symbol] for symbol in dict.fromkeys(symbols)]
    if len({gene.entrez for gene in genes}) < len(genes):
        raise AcquireError(f"{where} gives two of {', '.join(symbols)} one number. Name each gene once.")
    return genes


def checked_study(study_id: str) -> str:
    """`study_id` unchanged, if it may be one: it becomes a part of addresses and the name of a folder."""
    if not STUDY_ID.fullmatch(study_id):
        raise UsageError(
            f"'{study_id}' is no study of cBioPortal. An id has letters, digits, '_', '-' and '.', such as "
            "brca_tcga_pan_can_atlas_2018."
        )
    return study_id


def most_mutated(client: Http, url: str, study_ids: Sequence[str], n: int) -> list[Gene]:
    """The `n` genes with the most mutated cases over the studies, most first; a tie goes by name.

    The portal counts samples, of every type. That the route takes a body of `studyIds` was read in the portal's own
    tests; that it answers `numberOfAlteredCases` is from memory; neither was tried against the public instance.
    """
    rows = _mutated_genes(client, url, study_ids)
    rows = sorted(rows, key=lambda row: (-row["numberOfAlteredCases"], row["hugoGeneSymbol"]))
    return [Gene(row["entrezGeneId"], row["hugoGeneSymbol"]) for row in rows[:n]]


def _mutated_genes(client: Http, url: str, study_ids: Sequence[str]) -> list[dict[str, Any]]:
    where = f"{url}/mutated-genes/fetch"
    needed = {"entrezGeneId": int, "hugoGeneSymbol": str, "numberOfAlteredCases": int}
    return client.rows(where, needed, {"studyIds": sorted(study_ids)})


def _unknown_gene(client: Http, url: str, symbol: str, study_ids: Sequence[str]) -> UsageError:
    """The near match, without the list of some twenty thousand genes."""
    try:
        near = [row["hugoGeneSymbol"] for row in _mutated_genes(client, url, study_ids)]
    except AcquireError:  # the gene is the mistake to tell, not the missing hint
        near = []
    hint = str(unknown_name("gene", symbol, near)).partition(" Known:")[0]
    return UsageError(f"{hint} cBioPortal goes by current HUGO symbols (MLL2 is KMT2D, say).")


def _refuse_other_than_ids(where: str, answer: Any) -> None:
    if not isinstance(answer, list) or not all(isinstance(sample, str) and sample.isprintable() for sample in answer):
        raise AcquireError(f"{where} answered no list of sample ids. Is it the right address of the right server?")


def _mutation_profile(client: Http, url: str, study_id: str) -> str:
    where = f"{url}/studies/{study_id}/molecular-profiles"
    rows = client.rows(where, {"molecularAlterationType": str, "molecularProfileId": str})
    found = [row["molecularProfileId"] for row in rows if row["molecularAlterationType"] == "MUTATION_EXTENDED"]
    return _the_one(where, f"{study_id}_mutations", found, "mutation profile")


def _sequenced_list(client: Http, url: str, study_id: str) -> str:
    where = f"{url}/studies/{study_id}/sample-lists"
    rows = client.rows(where, {"sampleListId": str})
    found = [row["sampleListId"] for row in rows if row.get("category") == "all_cases_with_mutation_data"]
    return _the_one(where, f"{study_id}_sequenced", found or [row["sampleListId"] for row in rows], "sample list")


def _the_one(where: str, usual: str, found: Sequence[str], what: str) -> str:
    """The id by the portal's own rule of names, or else the only one there is."""
    if usual in found:
        return usual
    if len(found) == 1:
        return found[0]
    raise AcquireError(f"{where}: no {what} '{usual}' (found {', '.join(found) or 'none'}). Choose another study.")


def _mutations(client: Http, url: str, profile: str, sample_list: str, genes: Sequence[Gene]) -> list[Mutation]:
    """Pages until one is short or brings nothing new, in case a server has no pages and repeats itself."""
    found: set[Mutation] = set()
    question = {"sampleListId": sample_list, "entrezGeneIds": sorted(gene.entrez for gene in genes)}
    for number in range(10_000):
        where = (
            f"{url}/molecular-profiles/{profile}/mutations/fetch?projection=SUMMARY&pageSize={PAGE}&pageNumber={number}"
        )
        rows = client.rows(where, {"sampleId": str, "patientId": str, "entrezGeneId": int}, question)
        new = {_mutation(row) for row in rows} - found
        found |= new
        if len(rows) != PAGE or not new:
            break
    return sorted(found)


def _mutation(row: dict[str, Any]) -> Mutation:
    """Start and allele only tell one mutation from another: whatever they are, they are taken as they are."""
    kind, allele = _word(row.get("mutationType")) or "not stated", _word(row.get("variantAllele"))
    start = row.get("startPosition")
    start = start if isinstance(start, int) else -1
    return Mutation(row["sampleId"], row["patientId"], row["entrezGeneId"], kind, start, allele)


def _word(value: Any) -> str:
    """The value if it is text, with escapes for whatever a terminal would obey."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value) if isinstance(value, str) else ""
