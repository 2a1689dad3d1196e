"""Pseudonyms: ids of slides and patients replaced by keyed hashes, the same one for the same id everywhere.

The key, called salt, lies beside the bundle and never in it. Without it nobody can compute a hash from a guessed id.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milbench.errors import UsageError
from milbench.special_files import refuse_special

SALT_BYTES = 32
DIGITS = 16
"""Of a pseudonym: among a million ids two are alike once in 37 million bundles."""
HASHES = ("fingerprint", "split_sha256", "labels_sha256")
"""Hashes over ids. Whoever has the whole table could compute them, so they are keyed too."""


@dataclass(frozen=True, repr=False)
class Pseudonyms:
    """Keyed hashes of one salt."""

    salt: bytes

    def __repr__(self) -> str:
        return f"Pseudonyms({self.name})"

    @property
    def name(self) -> str:
        """Sixteen digits that tell this salt from others."""
        return self._digest("which salt", "")[:DIGITS]

    def id(self, text: str) -> str:
        """The pseudonym of a slide or patient."""
        return f"id-{self._digest('id', text)[:DIGITS]}"

    def hash(self, sha256: str) -> str:
        """A keyed hash in place of a hash over ids."""
        return self._digest("hash", sha256)

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's record with keyed hashes; its split's is replaced by who knows the new table."""
        return {key: self._hashes(value) if key in HASHES else value for key, value in record.items()}

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of a cohort; notes go, since they may name patients."""
        found = {key: self._hashes(value) if key in HASHES else value for key, value in facts.items() if key != "notes"}
        if "slides_of" in found:
            members = {self.id(name): sorted(map(self.id, slides)) for name, slides in found["slides_of"].items()}
            found["slides_of"] = dict(sorted(members.items()))
        return found

    def _hashes(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self.hash(str(each)) for key, each in value.items()}
        return self.hash(str(value)) if value else value

    def _digest(self, purpose: str, text: str) -> str:
        return hmac.new(self.salt, f"{purpose}\0{text}".encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def salt_in(path: Path) -> Pseudonyms:
    """The pseudonyms of the salt in a file, which is made if it is not there, readable for its owner alone.

    Raises
    ------
    UsageError : the file holds something else.
    """
    refuse_special(path, UsageError)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(SALT_BYTES) + "\n")
    try:
        salt = bytes.fromhex(path.read_text()[: 4 * SALT_BYTES].strip())
    except (UnicodeDecodeError, ValueError):
        salt = b""
    if len(salt) != SALT_BYTES:
        raise UsageError(
            f"{path} holds no salt: {2 * SALT_BYTES} digits of 0-9 and a-f. Name another file with --salt."
        )
    return Pseudonyms(salt)
