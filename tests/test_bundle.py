"""A bundle comes back as it went out, or says what is wrong with it; a warm start copies what has a place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recsys.bundle import FORMAT, Bundle, load_bundle, save_bundle, set_dial
from recsys.schema import InputError
from recsys.warm_start import warm_start
from tests.nn.small_model import catalogue, histories, small_model


def bundle(seed: int = 0) -> Bundle:
    return Bundle(
        model=small_model(seed=seed),
        scaler={"mean": [0.5] * 11, "std": [2.0] * 11},
        trained_on={
            **{"dataset": "shop", "version": "v1", "split_hash": "abc", "fit_until": "test"},
            **{"cut": 80, "learned_until": 90},
        },
        settings={"name": "demo", "seed": 3},
        vocabularies={"tokens": {"size": 2, "hash": "abc"}},
        item_ids=["", "A", "B", "C", "D", "E", "F"],
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_bundle(bundle(), tmp_path / "demo")
    return tmp_path / "demo"


def test_a_round_trip_keeps_everything(saved: Path) -> None:
    before, after = bundle(), load_bundle(saved)
    assert after.model.config == before.model.config
    assert not after.model.training
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], tensor), name
    scored = [b.model(histories(), catalogue()).user_BLD for b in (before, after)]
    assert torch.equal(*scored)
    for field in ("scaler", "trained_on", "settings", "vocabularies", "item_ids"):
        assert getattr(after, field) == getattr(before, field)
    assert after.fingerprint


def test_a_large_id_table_lies_in_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.bundle._ROWS_PER_SHARD", 4)
    save_bundle(bundle(), tmp_path / "demo")
    assert len(list((tmp_path / "demo").glob("weights-items-*.safetensors"))) == 3  # of 9 rows
    loaded = load_bundle(tmp_path / "demo").model.item_tower.lookup.weight
    assert torch.equal(loaded, bundle().model.item_tower.lookup.weight)


def test_nothing_in_a_bundle_is_a_pickle_and_it_has_a_card(saved: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert {Path(name).suffix for name in names} == {".json", ".safetensors", ".parquet", ".md"}
    assert "shop" in (saved / "MODEL_CARD.md").read_text()
    assert [path.name for path in saved.parent.iterdir()] == ["demo"]


def test_the_fingerprint_is_of_the_weights_and_the_scaler(saved: Path, tmp_path: Path) -> None:
    save_bundle(bundle(), tmp_path / "same")
    save_bundle(bundle(seed=1), tmp_path / "other")
    scaled = {"mean": [0.5] * 11, "std": [2.5] * 11}
    save_bundle(dataclasses.replace(bundle(), scaler=scaled), tmp_path / "scaled")
    first, same, *others = (
        load_bundle(tmp_path / name).fingerprint for name in ("demo", "same", "other", "scaled")
    )
    assert first == same
    assert len({first, *others}) == 3


def test_saving_again_replaces_the_whole_folder(saved: Path) -> None:
    (saved / "weights-items-00007.safetensors").write_bytes(b"left over")
    save_bundle(bundle(seed=1), saved)
    assert not (saved / "weights-items-00007.safetensors").exists()
    assert torch.equal(load_bundle(saved).model.start, bundle(seed=1).model.start)


def test_a_save_that_fails_leaves_the_old_bundle(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recsys.bundle.to_bytes", no_space)
    with pytest.raises(OSError, match="No space"):
        save_bundle(bundle(seed=1), saved)
    assert torch.equal(load_bundle(saved).model.start, bundle().model.start)
    assert [path.name for path in saved.parent.iterdir()] == ["demo"]


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no-such is not a model bundle.*train\.py"):
        load_bundle(tmp_path / "no-such")


def test_another_format_is_refused(saved: Path) -> None:
    content = json.loads((saved / "bundle.json").read_text())
    (saved / "bundle.json").write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(InputError, match=rf"format 99.*reads {FORMAT}; retrain"):
        load_bundle(saved)


def test_damage_is_named(saved: Path) -> None:
    shard = saved / "weights-dense.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"weights-dense\.safetensors is missing or damaged"):
        load_bundle(saved)
    shard.unlink()
    with pytest.raises(InputError, match=r"weights-dense\.safetensors is missing or damaged"):
        load_bundle(saved)
    (saved / "bundle.json").write_text("{")
    with pytest.raises(InputError, match="is not a model bundle"):
        load_bundle(saved)


def without_digests(folder: Path, **changes: Any) -> None:
    """As written before there was a digest of every file; a change of None takes the key away."""
    content = json.loads((folder / "bundle.json").read_text()) | changes
    kept = {k: v for k, v in content.items() if k not in ("digest", "files") and v is not None}
    (folder / "bundle.json").write_text(json.dumps(kept))


def test_a_bundle_from_before_the_digests_is_read(saved: Path) -> None:
    trained_on = bundle().trained_on
    del trained_on["learned_until"]
    without_digests(saved, trained_on=trained_on)
    assert load_bundle(saved).trained_on["learned_until"] == trained_on["cut"]


@pytest.mark.parametrize("name", ["items.parquet", "MODEL_CARD.md", "weights-items-00000.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_every_file_has_a_digest(saved: Path, name: str, content: bytes | None) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is missing or damaged; copy the bundle again") as caught:
        load_bundle(saved)
    assert str(caught.value).count("copy the bundle again") == 1


def test_a_changed_setting_is_damage(saved: Path) -> None:
    path = saved / "bundle.json"
    path.write_text(path.read_text().replace("2.0", "2.5", 1))
    with pytest.raises(InputError, match=r"bundle\.json is damaged; copy the bundle again"):
        load_bundle(saved)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"', "\xff", ""])
def test_a_file_that_holds_something_else_is_no_bundle(saved: Path, text: str) -> None:
    (saved / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is not a model bundle"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "changes",
    [
        *({key: None} for key in ("model", "scaler", "trained_on", "settings", "vocabularies", "shards")),
        *({key: []} for key in ("model", "scaler", "trained_on", "shards")),
        *({key: {}} for key in ("model", "scaler", "trained_on", "shards")),
        {"model": {"item_tower": {"width": "wide"}, "value_heads": None}},
        {"shards": {"items.parquet": "abc"}},
    ],
)
def test_any_other_damage_is_one_line_too(saved: Path, changes: dict[str, Any]) -> None:
    without_digests(saved, **changes)
    with pytest.raises(InputError, match=r"demo.* is (missing or )?damaged") as caught:
        load_bundle(saved)
    assert "\n" not in str(caught.value)


def test_items_that_cannot_be_read_are_damage(saved: Path) -> None:
    without_digests(saved)
    for content in (b"", b"other", None):
        (saved / "items.parquet").unlink()
        if content is not None:
            (saved / "items.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"demo is damaged"):
            load_bundle(saved)


def test_a_warm_start_keeps_the_new_rows_of_a_grown_table() -> None:
    old, new = bundle(), small_model(seed=1, capacity=12)
    config = new.config.item_tower
    assert config.capacity == 12
    fresh = new.item_tower.lookup.weight.detach().clone()
    warm_start(new, old.model.state_dict())
    weight = new.item_tower.lookup.weight
    assert torch.equal(weight[:9], old.model.item_tower.lookup.weight)
    assert torch.equal(weight[9:], fresh[9:])
    assert torch.equal(new.temperature.log, old.model.temperature.log)
    assert torch.equal(new.blocks[0].qkv.weight, old.model.blocks[0].qkv.weight)


def test_a_warm_start_leaves_neighbours_to_be_found_anew() -> None:
    old = dataclasses.replace(bundle(), model=small_model(num_neighbours=2))
    assert old.model.neighbours is not None
    old.model.neighbours.fill(torch.ones(9, 2, dtype=torch.long), torch.ones(9, 2))
    new = small_model(seed=1, capacity=12, num_neighbours=2)
    warm_start(new, old.model.state_dict())
    assert new.neighbours is not None
    assert not new.neighbours.weight_VK.any()


def test_a_warm_start_from_another_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="same model settings"):
        warm_start(small_model(score_width=4), bundle().model.state_dict())
    with pytest.raises(InputError, match="the model there differs"):
        warm_start(small_model(num_blocks=1), bundle().model.state_dict())


def test_the_critic_and_the_dial_come_back(tmp_path: Path) -> None:
    item_V = torch.tensor([0.0, 0.5, -0.25])
    save_bundle(dataclasses.replace(bundle(), advantage={"item_V": item_V}), tmp_path / "demo")
    found = load_bundle(tmp_path / "demo")
    assert torch.equal(found.advantage["item_V"], item_V)
    assert found.dial == 0.0
    set_dial(tmp_path / "demo", 0.5)
    turned = load_bundle(tmp_path / "demo")
    assert turned.dial == 0.5
    assert turned.fingerprint == found.fingerprint


def test_a_bundle_without_a_critic_has_none(saved: Path) -> None:
    assert load_bundle(saved).advantage == {}
