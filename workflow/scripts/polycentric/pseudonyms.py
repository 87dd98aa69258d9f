"""Pseudonyms: identities stay with the centre, everything else sees keyed hashes of them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from .errors import UserError

PREFIXES = {"patient": "P", "session": "S", "scan": "V", "structure": "R"}
_BYTES = 32


def pseudonym(salt: bytes, kind: str, value: str) -> str:
    """A pseudonym such as ``P-3F7K2M9QX4``: HMAC-SHA256 (RFC 2104) of kind and value, 50 bits of it in base 32.

    50 bits give a chance below one in a million that any two of 40,000 values meet; `cohort.assemble` refuses if so.
    """
    digest = hmac.new(salt, f"{kind}\x1f{value}".encode(errors="surrogatepass"), hashlib.sha256).digest()
    return f"{PREFIXES[kind]}-{base64.b32encode(digest)[:10].decode()}"


def patient(salt: bytes, centre: str, identifier: str) -> str:
    """Pseudonym of a centre's patient. Hospitals number their patients alike, so the centre belongs to the identity."""
    return pseudonym(salt, "patient", f"{centre}\x1f{identifier.strip()}")


def identify(salt: bytes, kind: str, centre: str, identifier: str) -> str:
    """Pseudonym of a centre's patient, session (StudyInstanceUID) or whole scan (SeriesInstanceUID)."""
    if kind == "patient":
        return patient(salt, centre, identifier)
    part = "\x1f0" if kind == "scan" else ""  # of a series that is one volume
    return pseudonym(salt, kind, f"{centre}\x1f{identifier.strip()}{part}")


def salt(path: str | Path, *, seed: int | None = None) -> bytes:
    """Read the key of the pseudonyms, or make it: at random, or from the study's seed for purely simulated studies.

    The file is readable for its owner only. Whoever has it can link pseudonyms to identifiers; losing it means new
    pseudonyms.

    Raises
    ------
    UserError
        if the file does not hold a key.
    """
    path = Path(path)
    if not path.exists():
        key = secrets.token_bytes(_BYTES) if seed is None else _from_seed(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-salt-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(key.hex() + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileExistsError):  # another job has just made a key: that one holds
                os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise UserError(
            f"{path}: this file does not hold a key of pseudonyms ({2 * _BYTES} hexadecimal digits). Put the right "
            "file back, or remove it to get new pseudonyms; the results under the old ones then no longer belong to it."
        )
    return key


def _from_seed(seed: int) -> bytes:
    return hashlib.sha256(f"polycentric simulated salt\x1f{seed}".encode()).digest()
