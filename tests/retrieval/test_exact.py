"""Retrieval by blocks finds what sorting the whole matrix of scores finds, to the bit and to the tie.

Vectors are small multiples of 1/8: their products and sums are exact in float32, so that no order of the sum
matters and many scores are equal. Legend: B users, V items (row 0 is padding), D width, K ranks.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys.metrics.ragged import Ragged
from recsys.retrieval import exact
from recsys.retrieval.exact import top_items
from recsys.schema import InputError


@pytest.fixture(params=[(256, 6144), (3, 64), (2, 24), (1, 8)], ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes of blocks under which the small catalogues here come in one, and in many."""
    for name, size in zip(("BLOCK_USERS", "BLOCK_ITEMS"), request.param, strict=True):
        monkeypatch.setattr(exact, name, size)


def eighths(shape: tuple[int, ...], *, seed: int, most: int = 16) -> torch.Tensor:
    return (
        torch.from_numpy(np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float32)) / 8
    )


def some_seen(num_users: int, num_items: int, *, seed: int, share: float = 0.3) -> Ragged:
    """In no order, some of them twice."""
    random = np.random.default_rng(seed)
    counts = random.binomial(num_items, share, num_users)
    return Ragged.from_lists([random.integers(0, num_items, count) for count in counts])


def sorted_whole(
    user_BD: torch.Tensor,
    item_VD: torch.Tensor,
    k: int,
    bias_V: torch.Tensor | None = None,
    seen: Ragged | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The plain twin: every score in float64, sorted."""
    score_BV = (user_BD.double() @ item_VD.double().T).numpy()
    score_BV = score_BV + (0 if bias_V is None else bias_V.double().numpy())
    score_BV[:, :1] = -np.inf
    for row in range(len(user_BD) if seen is not None else 0):
        score_BV[row, seen.row(row)] = -np.inf
    item_BK = np.argsort(-score_BV, axis=1, kind="stable")[:, :k]
    score_BK = np.take_along_axis(score_BV, item_BK, axis=1)
    missing = ((0, 0), (0, k - item_BK.shape[1]))
    score_BK = np.pad(score_BK, missing, constant_values=-np.inf)
    return score_BK, np.where(score_BK == -np.inf, 0, np.pad(item_BK, missing))


def check(user_BD: torch.Tensor, item_VD: torch.Tensor, k: int, **more: object) -> None:
    found = top_items(user_BD=user_BD, item_VD=item_VD, k=k, **more)
    assert (found.score_BK.dtype, found.item_BK.dtype) == (torch.float32, torch.int64)
    score_BK, item_BK = sorted_whole(user_BD, item_VD, k, **more)
    np.testing.assert_array_equal(found.item_BK.numpy(), item_BK)
    np.testing.assert_array_equal(found.score_BK.numpy(), score_BK)


def test_by_hand() -> None:
    items = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    found = top_items(
        user_BD=torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        item_VD=items,
        k=3,
        bias_V=torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0]),
        seen=Ragged.from_lists([[3], [1, 4]]),
    )
    assert found.item_BK.tolist() == [[1, 4, 2], [3, 2, 0]]
    assert found.score_BK.tolist() == [[1.0, 1.0, 0.5], [0.0, -0.5, -np.inf]]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 5, 40, 300])
@pytest.mark.parametrize("num_items", [1, 2, 17, 64, 200])
def test_the_same_as_sorting(num_items: int, k: int) -> None:
    users, items = eighths((7, 5), seed=num_items), eighths((num_items, 5), seed=k)
    bias, seen = eighths((num_items,), seed=1), some_seen(7, num_items, seed=2)
    check(users, items, k)
    check(users, items, k, bias_V=bias)
    check(users, items, k, seen=seen)
    check(users, items, k, bias_V=bias, seen=seen)


@pytest.mark.parametrize("k", [10, 100, 600])
def test_the_same_as_sorting_at_the_sizes_it_is_made_for(k: int) -> None:
    users, items = eighths((130, 16), seed=3), eighths((40_001, 16), seed=4)
    check(users, items, k, seen=some_seen(130, 40_001, seed=5, share=0.002))


@pytest.mark.usefixtures("blocks")
def test_equal_scores_come_by_lower_index() -> None:
    items = eighths((6, 4), seed=6).repeat(20, 1)
    check(eighths((4, 4), seed=7), items, 15)
    check(torch.zeros(4, 4), items, 15, seen=some_seen(4, 120, seed=8))
    check(torch.tensor([[0.0], [-0.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [0.0]]), 4)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("sign", [-1, 1])
def test_scores_that_only_rise_or_fall_with_the_index(sign: int) -> None:
    check(torch.tensor([[1.0], [0.5]]), sign * torch.arange(100.0)[:, None], 10)


@pytest.mark.usefixtures("blocks")
def test_what_is_minus_infinity_is_no_candidate() -> None:
    users, items, bias = eighths((3, 4), seed=9), eighths((50, 4), seed=10), torch.zeros(50)
    bias[torch.arange(50) % 3 > 0] = -torch.inf
    check(users, items, 20, bias_V=bias)
    check(users, items, 20, bias_V=torch.full((50,), -torch.inf))
    check(users, items, 20, seen=Ragged.from_lists([range(50), [], range(1, 49)]))


@pytest.mark.usefixtures("blocks")
def test_scores_at_the_ends_of_float32() -> None:
    largest, smallest = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
    items = torch.tensor([0.0, -largest, torch.inf, smallest, -smallest, largest, torch.inf, -largest, 0.0])
    check(torch.ones(2, 1), items[:, None], 8)


@pytest.mark.usefixtures("blocks")
def test_nobody_and_nothing() -> None:
    for num_users, num_items in ((0, 9), (3, 0), (0, 0)):
        nobody = Ragged.from_lists([[]] * num_users)
        check(torch.zeros(num_users, 2), torch.zeros(num_items, 2), 4)
        check(torch.zeros(num_users, 2), torch.zeros(num_items, 2), 4, seen=nobody)


def test_any_memory_layout() -> None:
    users, items = eighths((5, 12), seed=11), eighths((5, 90), seed=12)
    check(users[:, ::2][:, :5], items.T, 7, bias_V=eighths((180,), seed=13)[::2])


def test_any_numbers() -> None:
    random = torch.Generator().manual_seed(0)
    users, items = torch.randn(20, 96, generator=random), torch.randn(20_000, 96, generator=random)
    found = top_items(user_BD=users, item_VD=items, k=50)
    score_BK, _ = sorted_whole(users, items, 50)
    np.testing.assert_allclose(found.score_BK.numpy(), score_BK, atol=2e-5)
    own = (users.double()[:, None] * items.double()[found.item_BK]).sum(-1)
    np.testing.assert_allclose(found.score_BK.numpy(), own.numpy(), atol=2e-5)


def test_float32_within_autocast_and_no_gradients() -> None:
    users, items = eighths((5, 6), seed=19).requires_grad_(), eighths((300, 6), seed=20) + 1 / 1024
    with torch.autocast("cpu", dtype=torch.bfloat16):
        check(users.detach(), items, 20)
        assert not top_items(user_BD=users, item_VD=items, k=2).score_BK.requires_grad


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_which_stays_as_it_was(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(eighths((11, 6), seed=21), eighths((9_000, 6), seed=22), 30)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "has_onednn", lambda: False)
    check(eighths((5, 6), seed=14), eighths((300, 6), seed=15), 20, bias_V=eighths((300,), seed=16))


def test_never_holds_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_USERS", 8)
    monkeypatch.setattr(exact, "BLOCK_ITEMS", 64)
    product, sizes = exact._scores, []

    def watched(*arguments: torch.Tensor) -> np.ndarray:
        sizes.append(product(*arguments).size)
        return product(*arguments)

    monkeypatch.setattr(exact, "_scores", watched)
    top_items(user_BD=eighths((50, 4), seed=17), item_VD=eighths((1000, 4), seed=18), k=30)
    assert max(sizes) <= 8 * 64
    assert sum(sizes) >= 50 * 1000


USERS, ITEMS = torch.zeros(2, 3), torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"user_BD": USERS.bfloat16()},
            r"user_BD is torch.bfloat16 on cpu.*hand in user_BD.float\(\).cpu\(\)",
        ),
        (
            {"item_VD": ITEMS.to("meta")},
            r"item_VD is torch.float32 on meta.*hand in item_VD.float\(\).cpu\(\)",
        ),
        ({"bias_V": torch.zeros(5, dtype=torch.float64)}, "bias_V is torch.float64"),
        ({"user_BD": torch.zeros(2, 4)}, r"\(2, 4\) and item_VD \(5, 3\) do not go together; hand in"),
        ({"user_BD": torch.zeros(3)}, "hand in a row for each user"),
        ({"user_BD": USERS[:, :0], "item_VD": ITEMS[:, :0]}, "of one width above 0"),
        ({"bias_V": torch.zeros(4)}, "one number for each of the 5 items"),
        ({"k": 0}, "k=0 asks for no items; set it to 1 or more"),
        ({"seen": Ragged.from_lists([[1]])}, "seen has 1 rows; hand in one for each of the 2 users"),
        ({"seen": Ragged.from_lists([[1], [5]])}, "seen names items 1 to 5.*leave out"),
        ({"seen": Ragged.from_lists([[-1], []])}, "seen names items -1 to -1.*leave out"),
        ({"user_BD": torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0]])}, "not numbers; look for nan"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        top_items(**({"user_BD": USERS, "item_VD": ITEMS, "k": 2} | changed))
