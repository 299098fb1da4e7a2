"""Pseudonyms against published and openssl values; where the key comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.pseudonym import PREVIOUS_KEY_VARIABLE, Key, heir, load_key, pseudonym
from recsys.schema import InputError


def test_pseudonyms_are_hmac_sha256() -> None:
    # RFC 4231, test case 2
    jefe = Key(secret=b"Jefe", version="1", is_demo=False)
    assert pseudonym("what do ya want for nothing?", jefe) == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    # printf a | openssl dgst -sha256 -hmac recsys-demo-key-not-secret
    assert pseudonym("a", load_key({})) == "df8aa038cb2678634bcbe5c10ca9e9bc48cf893ff62d7d0824910505435d641f"


def test_the_environment_comes_before_the_file_and_the_file_before_the_demo_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file of keys\n")
    both = {"RECSYS_HMAC_KEY": "gewürz und pfeffer", "RECSYS_HMAC_KEY_FILE": str(tmp_path / "key")}
    assert load_key(both).secret == "gewürz und pfeffer".encode()
    del both["RECSYS_HMAC_KEY"]
    assert load_key(both).secret == b"from a file of keys"
    assert not load_key(both).is_demo
    assert load_key({}).is_demo
    assert load_key({}).version == "demo-1"


def test_the_version_is_given_or_derived() -> None:
    # openssl kdf -keylen 4 -kdfopt 'pass:salt and pepper and mace' -kdfopt 'salt:recsys key version'
    #   -kdfopt n:32768 -kdfopt r:8 -kdfopt p:1 -kdfopt maxmem_bytes:67108864 SCRYPT
    key = {"RECSYS_HMAC_KEY": "salt and pepper and mace"}
    assert load_key(key).version == "775eec5d"
    assert load_key(key | {"RECSYS_HMAC_KEY_VERSION": "2026-01"}).version == "2026-01"


@pytest.mark.parametrize("secret", ["x", "fifteen letters", "   padded with   "])
def test_a_key_that_could_be_guessed_is_refused(tmp_path: Path, secret: str) -> None:
    (tmp_path / "key").write_text(secret)
    for given in ({"RECSYS_HMAC_KEY": secret}, {"RECSYS_HMAC_KEY_FILE": str(tmp_path / "key")}):
        with pytest.raises(InputError, match="has fewer than 16 bytes and could be guessed; make one with"):
            load_key(given)


def test_the_key_before_comes_from_variables_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("salt and pepper and mace\n")
    both = {
        "RECSYS_HMAC_KEY": "from a file of keys",
        "RECSYS_HMAC_KEY_VERSION": "2026-01",
        "RECSYS_HMAC_PREVIOUS_KEY_FILE": str(tmp_path / "key"),
    }
    before = load_key(both, variable=PREVIOUS_KEY_VARIABLE)
    assert (before.secret, before.version) == (b"salt and pepper and mace", "775eec5d")
    named = both | {"RECSYS_HMAC_PREVIOUS_KEY_VERSION": "2025-01"}
    assert load_key(named, variable=PREVIOUS_KEY_VARIABLE).version == "2025-01"
    with pytest.raises(InputError, match="RECSYS_HMAC_PREVIOUS_KEY is empty"):
        load_key({"RECSYS_HMAC_PREVIOUS_KEY": ""}, variable=PREVIOUS_KEY_VARIABLE)


def test_the_heir_of_a_pseudonym_is_that_of_no_raw_id() -> None:
    # printf ' pseudonym:a' | openssl dgst -sha256 -hmac recsys-demo-key-not-secret
    assert heir("a", load_key({})) == "392eef721d1cfb64be3f9c03d3d84869a5643e061be28a174190371438cc5cfa"


def test_the_secret_is_never_shown() -> None:
    key = load_key({"RECSYS_HMAC_KEY": "salt and pepper and mace"})
    assert "pepper" not in f"{key} {key!r}"


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_key_that_is_named_but_not_there_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(InputError, match="RECSYS_HMAC_KEY_FILE names"):
        load_key({"RECSYS_HMAC_KEY_FILE": str(tmp_path / "key")})
    with pytest.raises(InputError, match="RECSYS_HMAC_KEY is empty"):
        load_key({"RECSYS_HMAC_KEY": content or ""})
