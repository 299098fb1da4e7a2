"""Attention against its plain twin: softmax of scaled dot products, head by head."""

from __future__ import annotations

import math

import torch

from recsys.nn.attention import GatedBlock, Rotary, attend


def plain_attention(
    q_BLD: torch.Tensor, k_BLD: torch.Tensor, v_BLD: torch.Tensor, visible_BLL: torch.Tensor
) -> torch.Tensor:
    """Two heads of three numbers each."""
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        score_BLL = q_BLD[..., part] @ k_BLD[..., part].transpose(1, 2) / 3**0.5
        weight_BLL = torch.softmax(score_BLL.masked_fill(~visible_BLL, float("-inf")), -1)
        heads.append(weight_BLL @ v_BLD[..., part])
    return torch.cat(heads, -1)


def test_without_a_mask_it_is_causal() -> None:
    q, k, v = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(1))
    visible = torch.ones(5, 5).tril().bool().expand(2, 5, 5)
    torch.testing.assert_close(attend(q, k, v, num_heads=2), plain_attention(q, k, v, visible))


def test_a_mask_says_which_keys_each_query_sees() -> None:
    rng = torch.Generator().manual_seed(2)
    q, (k, v) = torch.randn(2, 3, 6, generator=rng), torch.randn(2, 2, 5, 6, generator=rng)
    visible = torch.arange(5) <= torch.tensor([[0, 2, 4], [1, 1, 3]])[..., None]
    out = attend(q, k, v, num_heads=2, mask_BLL=visible)
    torch.testing.assert_close(out, plain_attention(q, k, v, visible))


def test_a_closed_gate_lets_no_attention_through() -> None:
    torch.manual_seed(0)
    block = GatedBlock(width=6, num_heads=2, dropout=0.0).eval()
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.bias.fill_(-1e4)
        block.down.weight.zero_()
        block.down.bias.zero_()
    hidden = torch.randn(2, 4, 6)
    torch.testing.assert_close(block(hidden), hidden)


def test_a_rotation_is_by_position_times_frequency() -> None:
    turned_BLNH = Rotary(head_width=4, max_positions=4)(torch.ones(1, 4, 1, 4))
    for position in range(4):
        for pair, frequency in enumerate((1.0, 0.01)):  # 10,000 ** (-2 * pair / 4)
            angle = position * frequency
            first, second = turned_BLNH[0, position, 0, [pair, pair + 2]].tolist()
            assert math.isclose(first, math.cos(angle) - math.sin(angle), abs_tol=1e-6)
            assert math.isclose(second, math.sin(angle) + math.cos(angle), abs_tol=1e-6)


def test_rotated_queries_and_keys_see_the_distance_only() -> None:
    rng = torch.Generator().manual_seed(3)
    query_H, key_H = torch.randn(2, 8, generator=rng)
    rotary = Rotary(head_width=8, max_positions=20)
    query_LH = rotary(query_H.expand(1, 20, 1, 8))[0, :, 0]
    key_LH = rotary(key_H.expand(1, 20, 1, 8))[0, :, 0]
    torch.testing.assert_close(query_LH[5] @ key_LH[2], query_LH[17] @ key_LH[14])
    assert not torch.isclose(query_LH[5] @ key_LH[2], query_LH[5] @ key_LH[3])
