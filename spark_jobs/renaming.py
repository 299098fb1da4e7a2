"""Files under other pseudonyms: row group by row group, line by line, each whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from itertools import islice
from pathlib import Path

import pyarrow as pa

from recsys.disk import whole_file
from recsys.schema import Column, FeedbackTable, InputError, Sealed, Table
from recsys.sealed import AesKey, place, seal, unseal
from spark_jobs.key_map import NUM_DIGITS, PSEUDONYM, KeyMap
from spark_jobs.raw_files import rewrite_parquet

_IN_TEXT = re.compile(rb"\b" + PSEUDONYM.encode() + rb"\b")
_LINES_AT_ONCE = 10_000


class Renaming:
    """By a map, for one data set; what is sealed is opened and sealed for its new place with `aes_key`."""

    def __init__(self, key_map: KeyMap, *, dataset: str, key_version: str, aes_key: AesKey | None) -> None:
        self._map, self._dataset, self._aes_key = key_map, dataset, aes_key
        self._facts = {FeedbackTable.KEY_VERSION: key_version.encode()}
        self._shared: dict[tuple[int, int], Path] = {}

    def copy_table(self, file: Path, target: Path) -> None:
        """A file of a version, at `target` until it takes the place of `file`. What versions share on disk
        they share afterwards."""
        about = file.stat()
        written = self._shared.get((about.st_dev, about.st_ino))
        if written is not None:
            try:
                os.link(written, target)
            except OSError:
                shutil.copy2(written, target)
            return
        rewrite_parquet(file, target, lambda part: self._renamed(part, file))
        if about.st_nlink > 1:
            self._shared[about.st_dev, about.st_ino] = file

    def rename_log(self, file: Path) -> None:
        """A file of the feedback log, which names the key from now on."""
        with whole_file(file) as target:
            rewrite_parquet(file, target, lambda part: self._renamed(part, file), facts=self._facts)

    def rename_output(self, file: Path) -> None:
        """Recommendations, of which some may be renamed already, and name a user who is nobody."""
        if file.suffix == ".csv":
            self._rename_text(file)
            return
        with whole_file(file) as target:
            rewrite_parquet(file, target, lambda part: self._renamed(part, None))

    def _renamed(self, part: pa.Table, strictly_of: Path | None) -> pa.Table:
        """InputError where the map lacks a pseudonym of a file that is all under the old key."""
        if Column.USER_KEY not in part.column_names:
            return part
        before = part[Column.USER_KEY]
        encoded = before.combine_chunks().dictionary_encode()
        words = encoded.dictionary.to_pylist()
        names = self._map.of(words)
        if strictly_of is not None and any(word not in names for word in words if len(word) == NUM_DIGITS):
            raise InputError(f"{strictly_of} was changed while this ran; run job=rotate again")
        after = pa.array([names.get(word, word) for word in words], before.type).take(encoded.indices)
        if Sealed.VALUE in part.column_names:
            part = self._resealed(part, after)
        return part.set_column(part.column_names.index(Column.USER_KEY), Column.USER_KEY, after)

    def _resealed(self, part: pa.Table, after: pa.Array) -> pa.Table:
        assert self._aes_key is not None
        values = []
        for row, user_key in zip(part.to_pylist(), after.to_pylist(), strict=True):
            old, new = (
                place(self._dataset, Table.SEALED, row[Sealed.COLUMN], key)
                for key in (row[Column.USER_KEY], user_key)
            )
            text = unseal(row[Sealed.VALUE], self._aes_key, bound_to=old)
            values.append(seal(text, self._aes_key, bound_to=new))
        where = part.column_names.index(Sealed.VALUE)
        return part.set_column(where, Sealed.VALUE, pa.array(values, part[Sealed.VALUE].type))

    def _rename_text(self, file: Path) -> None:
        with whole_file(file) as target, file.open("rb") as lines, target.open("wb") as renamed:
            while text := b"".join(islice(lines, _LINES_AT_ONCE)):
                renamed.write(self._renamed_text(text))

    def _renamed_text(self, text: bytes) -> bytes:
        names = self._map.of(word.decode() for word in _IN_TEXT.findall(text))
        return _IN_TEXT.sub(lambda word: names.get(word[0].decode(), word[0].decode()).encode(), text)
