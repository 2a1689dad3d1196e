"""Meaning: which of two words is the positive class, and which words say that nobody knows.

Words are compared without regard to case, blanks, accents' encoding and the strokes between their parts.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

PAIRS: tuple[tuple[str, str], ...] = (
    ("- | neg | negative", "+ | pos | positive"),
    ("negativ | négatif | négative | negativo | negativa | negatief | ujemny | negatywny | отрицательный | 阴性 | 陰性 | 음성",
     "positiv | positif | positive | positivo | positiva | positief | dodatni | pozytywny | положительный | 阳性 | 陽性 | 양성"),
    ("wt | wild type | wildtype | wildtyp | type sauvage | sauvage | silvestre | selvagem | 野生型",
     "mut | mutated | mutant | mutation | mutiert | muté | mutado | mutato | mutada | 突变 | 突变型 | 突變型"),
    ("absent | none | abwesend | ausente | assente | afwezig | 无 | 無", "present | vorhanden | présent | presente | aanwezig | 有"),
    ("l | lo | low | lower | niedrig | gering | faible | bas | bajo | baixo | basso | laag | низкий | 低",
     "h | hi | high | higher | hoch | élevé | haut | alto | hoog | высокий | 高"),
    ("n | no", "y | yes"), ("nein", "ja"), ("nee", "ja"), ("nej", "ja"), ("nei", "ja"), ("non", "oui"), ("no", "si | sí | sì"),
    ("não", "sim"), ("nie", "tak"), ("ne", "ano | da"), ("nu", "da"), ("ei", "kyllä"), ("nem", "igen"), ("hayır", "evet"),
    ("όχι", "ναι"), ("нет", "да"), ("否", "是"), ("いいえ", "はい"), ("아니오 | 아니요", "예 | 네"),
    ("f | false | falsch | faux | falso", "t | true | wahr | vrai | vero | verdadero | verdadeiro"),
    ("without | w/o | ohne | sans | sin | senza | sem | zonder", "with | w/ | mit | avec | con | com | met"),
    ("mss | stable", "msi | msi h | unstable | instable"), ("pmmr | mmrp | proficient", "dmmr | mmrd | deficient"),
    ("benign", "malignant"), ("normal | healthy | control", "tumor | tumour | cancer | abnormal | disease | diseased | case"),
    ("alive | living", "dead | deceased"), ("inactive", "active"), ("nr | non responder", "r | responder"),
    ("insufficient", "sufficient"),
)  # fmt: skip
"""Words of class 0, then of class 1."""

NEGATIONS = ("non", "not", "no", "un", "nicht", "kein", "keine", "pas de", "pas", "nie")
"""What makes the negative of a word where it stands before it, as in nonMSIH and `not amplified`."""

NOBODY_KNOWS = """
    unknown | unk | not reported | not available | not applicable | not evaluated | not evaluable | not assessed |
    not assessable | not performed | not done | not determined | not tested | not known | not specified | not recorded |
    not provided | not stated |
    na | n/a | nan | no data | no result | no information | none | null | nil | missing | unavailable | ne | nr | nd | nk |
    n.e. | n.r. | n.d. | n.k. | n.a. | indeterminate | undetermined | undefined | unspecified | unclear | uncertain |
    equivocal | inconclusive | ambiguous | pending | tbd | insufficient | qns | discrepancy | ? | ?? | - | -- | --- | . | * | # |
    na/na | not a number | unbekannt | nicht bekannt | keine angabe | k.a. | k. a. | inconnu | inconnue | non connu | desconocido |
    desconocida | sconosciuto | desconhecido | onbekend | ukjent | okänd | ukendt | nieznany | неизвестно | нет данных | 未知 | 不详 | 不明 |
    알수없음
"""
"""Cells that tell no label, and yet are words: milbench asks about them."""

CENSORED = """
    censored | cens | censor | alive | living | alive with disease | living with disease | no event | event free | not dead |
    disease free | diseasefree | no evidence of disease | recurrence free | relapse free | progression free | metastasis free |
    no recurrence | not recurred | non recurrent | no relapse | no progression | not progressed | tumor free | tumour free |
    lost to follow up | lebend | lebt | vivant | vivo | viva | levend | 存活 | 生存
"""
SEEN = """
    event | uncensored | not censored | observed | dead | deceased | died | death | died of disease | dead of disease |
    recurred | recurrence | recurrent | relapse | relapsed | progressed | progression | recurred/progressed |
    recurrence/progression | metastasis | metastasized | verstorben | gestorben | tot | décédé | mort | fallecido | muerto |
    deceduto | overleden | 死亡
"""
"""Words of a patient's state at the end of follow-up, which mean the same in a column of events and in one of censoring."""

NO = "0 | 0.0 | no | n | false | f | nein | non | nee | nej | 否"
YES = "1 | 1.0 | yes | y | true | t | ja | oui | si | sí | 是"
"""Words that say whether that is so which the column's name says."""

STROKES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"), "-") | {ord("\uff0b"): "+"}


def key(word: str) -> str:
    """The word as it is compared: composed, in lower case, one blank between its parts."""
    text = unicodedata.normalize("NFC", word).translate(STROKES).casefold()
    return " ".join(text.replace("_", " ").split())


def tells_nothing(word: str) -> bool:
    """Whether the word says that the label is not known, such as "Not Reported" or "[Unknown]"."""
    return _joined(key(word).strip("[](){}<>'\"` ")) in _nobody_knows()


def negative_and_positive(words: tuple[str, str]) -> tuple[str, str] | None:
    """The two words with the negative one first; None where they do not say which that is."""
    first, second = key(words[0]), key(words[1])
    for is_negative_of in (
        _is_pair,
        _is_negated,
        _differ_in_a_pair,
        _numbered,
    ):  # listed pairs win: "stable" and "unstable"
        if is_negative_of(first, second):
            return words
        if is_negative_of(second, first):
            return words[1], words[0]
    return None


def is_listed_pair(words: tuple[str, str]) -> bool:
    """Whether the two words are one of `PAIRS`, so that even "-" and "none" are classes."""
    first, second = key(words[0]), key(words[1])
    return _is_pair(first, second) or _is_pair(second, first)


def event_in(word: str, *, of_censoring: bool) -> float | None:
    """1 if a cell says that the event was seen, 0 if the patient was censored, None if it says neither.

    Parameters
    ----------
    of_censoring : whether the column tells censoring, so that its 1 and yes mean censored.
    """
    text = key(word)
    numbered = re.fullmatch(r"([01])\s*[:=)]\s*(.+)", text)
    for state in (_joined(numbered[2]), numbered[1]) if numbered else (_joined(text),):
        if state in _states():
            return _states()[state]
        if state in _answers():
            return 1 - _answers()[state] if of_censoring else _answers()[state]
    return None


def _is_pair(word: str, other: str) -> bool:
    return (_joined(word), _joined(other)) in _pairs()


def _is_negated(word: str, other: str) -> bool:
    """Whether `word` is `other` behind a negation: nonmsih and msih, "not amplified" and amplified."""
    rest = _joined(other)
    return bool(rest) and any(_joined(word) == _joined(negation) + rest for negation in NEGATIONS)


def _differ_in_a_pair(word: str, other: str) -> bool:
    """Whether the words are alike except for one part that is a pair: "er low" and "er high", er- and er+, n_tp53 and y_tp53."""
    return any(
        _differ_in_one(_parts(word, between), _parts(other, between)) for between in (r"[\s/,;:()]+", r"[\s/,;:()-]+")
    )


def _differ_in_one(parts: list[str], others: list[str]) -> bool:
    if len(parts) != len(others) or len(parts) < 2:
        return False
    different = [pair for pair in zip(parts, others, strict=True) if pair[0] != pair[1]]
    return len(different) == 1 and _is_pair(*different[0])


def _numbered(word: str, other: str) -> bool:
    """Whether the words say their numbers, as in 0:LIVING and 1:DECEASED."""
    return bool(re.match(r"0\s*[:=)]", word) and re.match(r"1\s*[:=)]", other))


def _parts(word: str, between: str) -> list[str]:
    """The parts of a compound; a sign at its end is one."""
    stem, sign = (word[:-1], [word[-1]]) if len(word) > 1 and word[-1] in "+-" else (word, [])
    return [part for part in re.split(between, stem) if part] + sign


def _joined(word: str) -> str:
    """The word without blanks and inner strokes, so that wild-type and wildtype are one; signs alone stay."""
    return word if set(word) <= set("+-") else re.sub(r"[\s-]+", "", word)


@cache
def _pairs() -> frozenset[tuple[str, str]]:
    sides = [(_listed(negative), _listed(positive)) for negative, positive in PAIRS]
    return frozenset((n, p) for negative, positive in sides for n in negative for p in positive)


def _listed(words: str) -> list[str]:
    return [_joined(key(word)) for word in words.split("|")]


@cache
def _nobody_knows() -> frozenset[str]:
    return frozenset(_listed(NOBODY_KNOWS))


@cache
def _states() -> dict[str, float]:
    return {**dict.fromkeys(_listed(CENSORED), 0.0), **dict.fromkeys(_listed(SEEN), 1.0)}


@cache
def _answers() -> dict[str, float]:
    return {**dict.fromkeys(_listed(NO), 0.0), **dict.fromkeys(_listed(YES), 1.0)}
