"""A trained model on disk: safetensors weights, config, scaler, items, fingerprint, model card. No pickle.

<bundle>/
  bundle.json             format, model config, scaler, calibration of the value heads, tables it was
                          trained on, run settings, vocabularies, digests of the weights, the other files
                          and of itself
  weights-*.safetensors   dense weights, and the id table in item_index order, a million rows a file
  items.parquet           item_index -> item_id
  advantage.safetensors   what items do to users' futures (`recsys.policy.advantage`), where it was learned
  MODEL_CARD.md
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from recsys.disk import whole_file, whole_folder
from recsys.nn.item_tower import ItemTowerConfig
from recsys.nn.user_model import UserModel, UserModelConfig
from recsys.nn.value_heads import ValueHeadsConfig
from recsys.schema import Column, InputError
from recsys.valuation.calibration import ValueCalibration

FORMAT = 4
CHAMPION = "champion"  # the link to the bundle that serves
_BUNDLE, _ITEMS, _CARD = "bundle.json", "items.parquet", "MODEL_CARD.md"
_ADVANTAGE = "advantage.safetensors"
_ID_TABLE, _ITEM_BIAS = "item_tower.lookup.weight", "item_bias.weight"
_SAYS = ("shards", "scaler", "value_calibration")  # what decides the answers
_ROWS_PER_SHARD = 1_000_000
_DAMAGE = (
    *(KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError, OSError),
    *(pa.ArrowException, SafetensorError),
)


class _DamagedError(InputError):
    """Says already which file it is, and what to do."""


@dataclass(frozen=True)
class Bundle:
    """scaler: mean and std of the cut features; trained_on: dataset, table version, split hash, fit_until and
    its cut, learned_until (the latest cut it or a bundle it started from has learned up to, Unix seconds);
    vocabularies: size and hash of each one; item_ids: by item_index; calibration: of the value heads, None
    without them and in bundles from before it; advantage: arrays of the critic, empty where there is none;
    dial: where `recommend` turns it to unless told otherwise."""

    model: UserModel
    scaler: dict[str, list[float]]
    trained_on: dict[str, Any]
    settings: dict[str, Any]
    vocabularies: dict[str, dict[str, Any]]
    item_ids: list[str]
    fingerprint: str = ""
    calibration: ValueCalibration | None = None
    advantage: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    dial: float = 0.0

    @property
    def output_dir(self) -> Path:
        """Folder of the run that trained it, where its report lies."""
        return Path(self.settings["output_dir"])


def save_bundle(bundle: Bundle, path: Path, *, writes: bool = True) -> None:
    """The folder is complete or as it was before. Raises OSError that names it where the disk is full.

    Where item tables are sharded, every rank calls this and the first one `writes`: rows come to it a file
    at a time.
    """
    if not writes:
        for _ in _shards(bundle.model):
            pass
        return
    with whole_folder(path) as building:
        digests = {}
        for name, tensors in _shards(bundle.model):
            (building / name).write_bytes(to_bytes(tensors))
            digests[name] = _digest(building / name)
        pq.write_table(
            pa.table({Column.ITEM_INDEX: range(len(bundle.item_ids)), Column.ITEM_ID: bundle.item_ids}),
            building / _ITEMS,
        )
        content = {
            "format": FORMAT,
            "model": dataclasses.asdict(bundle.model.config),
            "scaler": bundle.scaler,
            "trained_on": bundle.trained_on,
            "settings": bundle.settings,
            "vocabularies": bundle.vocabularies,
            "shards": digests,
            "dial": bundle.dial,
        }
        if bundle.calibration is not None:
            content["value_calibration"] = bundle.calibration.as_dict()
        (building / _CARD).write_text(_model_card(bundle))
        files = [_ITEMS, _CARD]
        if bundle.advantage:
            (building / _ADVANTAGE).write_bytes(to_bytes(bundle.advantage))
            files.append(_ADVANTAGE)
        content["files"] = {name: _digest(building / name) for name in files}
        content["digest"] = _digest_of(content)
        (building / _BUNDLE).write_text(json.dumps(content, indent=2))


def set_dial(path: Path, dial: float) -> None:
    """Record in the bundle at `path` where `recommend` turns the dial to unless told otherwise."""
    content = json.loads((path / _BUNDLE).read_text())
    del content["digest"]
    content["dial"] = dial
    content["digest"] = _digest_of(content)
    with whole_file(path / _BUNDLE) as building:
        building.write_text(json.dumps(content, indent=2))


def _shards(model: UserModel) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Name and content of each file of weights, one in memory at a time."""
    num_rows = model.config.item_tower.capacity + 1
    weights = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    weights.pop(_ID_TABLE, None)
    weights[_ITEM_BIAS] = model.item_bias.rows(0, num_rows).contiguous()
    yield "weights-dense.safetensors", weights
    for k, start in enumerate(range(0, num_rows, _ROWS_PER_SHARD)):
        rows = model.item_tower.lookup.rows(start, min(start + _ROWS_PER_SHARD, num_rows))
        yield f"weights-items-{k:05d}.safetensors", {_ID_TABLE: rows.contiguous()}


def bundle_folder(models_dir: Path, name: str) -> Path:
    """Where the bundle of this name lies; InputError that lists those there are, or says how a champion is
    made.
    """
    folder = models_dir / name
    if (folder / _BUNDLE).is_file():
        return folder
    there = sorted(path.parent.name for path in models_dir.glob(f"*/{_BUNDLE}"))
    if name == CHAMPION and there:
        raise InputError(
            f"{models_dir} has no champion yet; make one: python -m recsys promote dataset={models_dir.name} "
            f"challenger=NAME, of {', '.join(there)}"
        )
    listed = f"there are {', '.join(there)}" if there else "train one with `python train.py`"
    raise InputError(f"there is no bundle {name!r} in {models_dir}; {listed}")


def load_bundle(path: str | Path) -> Bundle:
    """Raises InputError where the folder is no complete bundle of this format."""
    path = Path(path)
    try:
        content = json.loads((path / _BUNDLE).read_text())
        if not isinstance(content, dict):
            raise ValueError(f"{_BUNDLE} holds no settings")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a model bundle ({error}); train one with `python train.py`"
        ) from error
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path} has bundle format {content.get('format')}, this code reads {FORMAT}; retrain"
        )
    try:
        return _read(path, content)
    except _DamagedError:
        raise
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}); copy the bundle again or retrain") from error


def _read(path: Path, content: dict[str, Any]) -> Bundle:
    """What is within may be damaged in any way: bundles from before the digests are only read."""
    digest = content.pop("digest", None)
    if digest is not None and digest != _digest_of(content):
        raise _DamagedError(f"{path / _BUNDLE} is damaged; copy the bundle again or retrain")
    for name, expected in sorted({**content["shards"], **content.get("files", {})}.items()):
        if not (path / name).is_file() or _digest(path / name) != expected:
            raise _DamagedError(f"{path / name} is missing or damaged; copy the bundle again or retrain")
    weights: dict[str, torch.Tensor] = {}
    model = UserModel(_config(content["model"]))
    table, num_rows = model.state_dict()[_ID_TABLE], 0
    for name in sorted(content["shards"]):
        tensors = load_file(path / name)
        if _ID_TABLE in tensors:  # into its place at once: a large table is not held twice
            rows = tensors.pop(_ID_TABLE)
            table[num_rows : num_rows + len(rows)] = rows
            num_rows += len(rows)
        weights |= tensors
    calibration = content.get("value_calibration")
    assert num_rows == len(table), "the shards of a bundle hold the whole id table"
    model.load_state_dict({**weights, _ID_TABLE: table})
    return Bundle(
        model=model.eval(),
        scaler={name: content["scaler"][name] for name in ("mean", "std")},
        trained_on={"learned_until": content["trained_on"]["cut"], **content["trained_on"]},
        settings=content["settings"],
        vocabularies=content["vocabularies"],
        item_ids=pq.read_table(path / _ITEMS)[Column.ITEM_ID].to_pylist(),
        fingerprint=_digest_of({name: content[name] for name in _SAYS if name in content})[:16],
        calibration=ValueCalibration.from_dict(calibration) if calibration else None,
        advantage=load_file(path / _ADVANTAGE) if _ADVANTAGE in content.get("files", {}) else {},
        dial=float(content.get("dial", 0.0)),
    )


def _config(values: dict[str, Any]) -> UserModelConfig:
    def tuples(part: dict[str, Any]) -> dict[str, Any]:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}

    tower = ItemTowerConfig(**tuples(values["item_tower"]))
    heads = ValueHeadsConfig(**tuples(values["value_heads"])) if values["value_heads"] else None
    rest = {k: v for k, v in tuples(values).items() if k not in ("item_tower", "value_heads")}
    return UserModelConfig(item_tower=tower, value_heads=heads, **rest)


def _digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_card(bundle: Bundle) -> str:
    config, trained = bundle.model.config, bundle.trained_on
    parameters = sum(p.numel() for p in bundle.model.parameters())
    heads = "spend, retention, conversion" if config.value_heads else "none"
    lines = [
        "# Attention-based user model",
        f"- Data: {trained['dataset']}, tables {trained['version']}, split {trained['split_hash'][:16]}",
        f"- Learned from events before the {trained['fit_until']} cut",
        f"- {parameters:,} weights: width {config.width}, {config.num_blocks} blocks; value heads: {heads}",
        f"- Catalogue: {len(bundle.item_ids) - 1:,} items; the id table holds {config.item_tower.capacity:,}",
        "- Meant for: ranking items for users of this platform and estimating their value at a date.",
        "- Not meant for: decisions on a person's rights, credit or prices; other platforms' users.",
        "- Users are their histories and profiles: no table of user ids is stored in the weights.",
    ]
    return "\n".join(lines) + "\n"
