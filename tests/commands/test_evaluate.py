"""`python -m recsys evaluate`: what is wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("bundle=null",), "bundle is missing"),
        (("bundle=[a,b]",), "bundle must be of type str"),
        (("bundle=nobody",), "there is no bundle 'nobody' in models/online_retail"),
        (("bundle=tiny", "split=train"), "train is no split with one cut"),
        (("bundle=tiny", "split=now"), "nothing has followed the cut now"),
    ],
)
def test_what_is_wrong_is_one_line(
    tiny_bundle: Path, tiny_root: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    done = tiny.run("-m", "recsys", "evaluate", *overrides, cwd=tiny_root, code=2)
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
