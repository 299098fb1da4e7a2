"""Where the time of a training step goes: operators by what they do, as a table in Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from torch.profiler import ProfilerActivity, profile

from benchmarks.contender import Training

KINDS = (  # the first whose word is in an operator's name has it
    ("matrix products", ("mm", "linear", "matmul", "dnnl", "einsum")),
    ("attention", ("attention",)),
    ("softmax and losses", ("softmax", "logsumexp", "cross_entropy", "nll_loss", "::exp", "::log")),
    ("lookups and their gradients", ("embedding", "index", "gather", "scatter")),
    ("optimizer and clipping", ("_fused_adam", "norm_", "foreach", "linalg_vector_norm")),
    (
        "copies, masks and fills",
        ("copy", "::cat", "fill", "where", "zero", "::to", "clone", "masked", "::pad"),
    ),
    ("norms", ("rms_norm", "layer_norm", "::norm")),
    ("dropout", ("dropout", "bernoulli", "::rand")),
)
OTHERS, SHOWN_OPERATORS = "other elementwise work", 12


def table(training: Training, *, num_steps: int) -> list[str]:
    """Lines of Markdown: share of the operators' own time by kind, then the costliest operators."""
    training.step(next(training.batches))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(num_steps):
            training.step(next(training.batches))
    own_s = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    total_s, by_kind = sum(own_s.values()), defaultdict[str, float](float)
    for name, spent_s in own_s.items():
        by_kind[kind_of(name)] += spent_s
    lines = ["| where the time goes | ms a step | share |", "|---|---:|---:|"]
    lines += rows(by_kind.items(), total_s, num_steps)
    lines += ["", "| costliest operators | ms a step | share |", "|---|---:|---:|"]
    most = sorted(own_s.items(), key=lambda pair: -pair[1])[:SHOWN_OPERATORS]
    return lines + list(rows(((f"`{name}`", spent_s) for name, spent_s in most), total_s, num_steps))


def kind_of(operator: str) -> str:
    return next((kind for kind, words in KINDS if any(word in operator for word in words)), OTHERS)


def rows(spent_s: Iterable[tuple[str, float]], total_s: float, num_steps: int) -> Iterator[str]:
    for name, value in sorted(spent_s, key=lambda pair: -pair[1]):
        yield f"| {name} | {1e3 * value / num_steps:,.1f} | {value / total_s:.0%} |"
