"""Values that only those with the key can read: AES-256-GCM, bound to their place. What Spark's `aes_encrypt`
writes and `aes_decrypt` reads: 12 bytes of nonce, the text, 16 bytes of tag.

The key is 64 hex digits in `RECSYS_AES_KEY`, else in the file that `RECSYS_AES_KEY_FILE` names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from recsys.pseudonym import secret_of
from recsys.schema import InputError

AES_VARIABLE = "RECSYS_AES_KEY"
AES_FILE_VARIABLE = "RECSYS_AES_KEY_FILE"
KEY_BYTES, NONCE_BYTES = 32, 12


@dataclass(frozen=True)
class AesKey:
    """`repr` and `str` never show the secret; `version`: 8 hex digits that tell two keys apart."""

    secret: bytes = field(repr=False)

    @property
    def version(self) -> str:
        return hashlib.sha256(b"recsys aes key" + self.secret).hexdigest()[:8]


def load_aes_key(environment: Mapping[str, str] | None = None) -> AesKey:
    """The key; InputError where there is none or it is not 32 bytes in hex."""
    environment = os.environ if environment is None else environment
    text = secret_of(environment, AES_VARIABLE, AES_FILE_VARIABLE)
    if text is None:
        raise InputError(
            f"the data set encrypts columns and there is no key; set {AES_VARIABLE} or "
            f"{AES_FILE_VARIABLE} to 64 hex digits (`openssl rand -hex 32`)"
        )
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise InputError(f"{AES_VARIABLE} must be 64 hex digits; make one with `openssl rand -hex 32`")
    return AesKey(secret=secret)


def place(dataset: str, table: str, column: str, user_key: str) -> str:
    """What a sealed value is bound to: moved elsewhere it cannot be opened."""
    return f"{dataset}/{table}/{column}/{user_key}"


def seal(text: str, key: AesKey, *, bound_to: str) -> bytes:
    """Under a nonce of its own."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key.secret).encrypt(nonce, text.encode("utf-8"), bound_to.encode())


def unseal(sealed: bytes, key: AesKey, *, bound_to: str) -> str:
    """The text; InputError where the key is another one, or the bytes or their place were changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        text = AESGCM(key.secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to.encode())
    except (InvalidTag, ValueError):
        raise InputError(
            f"a value sealed for {bound_to.rsplit('/', 1)[0]} does not open: another key, or its bytes or "
            f"its place were changed; set {AES_VARIABLE} to the key it was sealed with"
        ) from None
    return text.decode("utf-8")
