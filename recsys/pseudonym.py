"""Keyed pseudonyms for user ids, and where the key comes from. Standard library only.

The key is the UTF-8 text of `RECSYS_HMAC_KEY`, else the content of the file that `RECSYS_HMAC_KEY_FILE` names
(white space at its ends stripped), else the marked demo key, which protects nobody. Its version is
`RECSYS_HMAC_KEY_VERSION`, else derived from the secret, so that tables made under two keys can be told apart.
Versions are published with the tables: deriving one costs time and memory, so that guessing secrets does too.

Where the key is changed, the one before comes from `RECSYS_HMAC_PREVIOUS_KEY` (`_FILE`, `_VERSION`) likewise.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.schema import InputError

KEY_VARIABLE = "RECSYS_HMAC_KEY"
PREVIOUS_KEY_VARIABLE = "RECSYS_HMAC_PREVIOUS_KEY"

DEMO_SECRET = b"recsys-demo-key-not-secret"
DEMO_VERSION = "demo-1"

MIN_SECRET_BYTES = 16
HEIR = " pseudonym:"  # no raw id begins like this: white space at its ends is stripped


@dataclass(frozen=True)
class Key:
    """A pseudonymisation key. `repr` and `str` never show the secret."""

    secret: bytes = field(repr=False)
    version: str
    is_demo: bool


def load_key(environment: Mapping[str, str] | None = None, *, variable: str = KEY_VARIABLE) -> Key:
    """The key by the rule in this file's head; `environment` defaults to the process's own.

    Raises InputError where a key is named but empty or unreadable: falling back to the demo key then would
    publish pseudonyms that anybody can reverse. So would a short key, which is refused as well.
    """
    environment = os.environ if environment is None else environment
    secret = secret_of(environment, variable, f"{variable}_FILE")
    if secret is None:
        return Key(secret=DEMO_SECRET, version=DEMO_VERSION, is_demo=True)
    version = environment.get(f"{variable}_VERSION") or _version(secret)
    return Key(secret=secret, version=version, is_demo=False)


def pseudonym(user_id: str, key: Key) -> str:
    """HMAC-SHA256 of the UTF-8 user id under the key (RFC 2104), as 64 hex digits."""
    return hmac.digest(key.secret, user_id.encode("utf-8"), "sha256").hex()


def heir(user_key: str, key: Key) -> str:
    """Under the key, what stands for a pseudonym under another one whose raw id is not at hand."""
    return pseudonym(HEIR + user_key, key)


def _version(secret: bytes) -> str:
    """8 hex digits of scrypt (RFC 7914) over a fixed label."""
    work = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}
    return hashlib.scrypt(secret, salt=b"recsys key version", dklen=4, **work).hex()


def _check_length(secret: bytes, variable: str) -> None:
    if len(secret.strip()) < MIN_SECRET_BYTES:
        raise InputError(
            f"the key of {variable} has fewer than {MIN_SECRET_BYTES} bytes and could be guessed; "
            "make one with `openssl rand -hex 32`"
        )


def secret_of(environment: Mapping[str, str], variable: str, file_variable: str) -> bytes | None:
    """The secret's bytes, or None where neither variable is set.

    Raises InputError where a variable is empty, a file cannot be read, or a secret is too short.
    """
    if variable in environment:
        secret = environment[variable].encode("utf-8")
        if not secret.strip():
            raise InputError(f"{variable} is empty; set it to the secret or unset it")
        _check_length(secret, variable)
        return secret
    if file_variable not in environment:
        return None
    path = environment[file_variable]
    try:
        with open(path, "rb") as file:
            secret = file.read().strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{file_variable} names {path!r}: {reason}; point it at the key file") from None
    if not secret:
        raise InputError(f"{file_variable} names {path!r}, which is empty; put the secret into it")
    _check_length(secret, file_variable)
    return secret
