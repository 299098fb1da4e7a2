"""Two small markets whose policies have a known true value: single decisions, and sequences with churn.

Legend: T kinds of users, A actions, D features, U users, R decisions, G states, S sequences, H steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.policy.off_policy.decisions import Decisions
from recsys.policy.off_policy.reward_model import with_ridge_model
from recsys.policy.off_policy.sequences import Sequences


def softmax(score: np.ndarray, *, temperature: float, floor: float) -> np.ndarray:
    weight = np.exp((score - score.max(axis=1, keepdims=True)) / temperature)
    return (1 - floor) * weight / weight.sum(axis=1, keepdims=True) + floor / score.shape[1]


def drawn(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index a row of probabilities."""
    return (
        (np.cumsum(probability, axis=1) < rng.random((len(probability), 1)))
        .sum(axis=1)
        .clip(max=probability.shape[1] - 1)
    )


@dataclass(frozen=True)
class DecisionWorld:
    """Users come as one of T kinds, each with its taste, its mood and its number of visits, all fixed.

    The mood is hidden from reward models and shared by all visits of a user, so that visits of a user are
    alike; kinds in a good mood come more often.
    """

    context_TD: np.ndarray
    reward_TA: np.ndarray  # probability of a click
    num_visits_T: np.ndarray
    logging_TA: np.ndarray

    @classmethod
    def make(cls, seed: int = 0, *, num_kinds: int = 300, num_actions: int = 10) -> DecisionWorld:
        rng = np.random.default_rng(seed)
        context_TD = rng.normal(size=(num_kinds, 3))
        taste_TA = context_TD @ rng.normal(size=(3, num_actions)) * 0.7 + rng.normal(size=num_actions) * 0.5
        mood_T = rng.normal(size=num_kinds) * 0.8
        guess_TA = taste_TA + rng.normal(size=taste_TA.shape) * 1.5
        return cls(
            context_TD=context_TD,
            reward_TA=1 / (1 + np.exp(1.8 - taste_TA - mood_T[:, None])),
            num_visits_T=rng.integers(2, 7, size=num_kinds) + 2 * (mood_T > 0),
            logging_TA=softmax(guess_TA, temperature=2.0, floor=0.2),
        )

    def target(self, sharpness: float) -> np.ndarray:
        """(T, A) Towards the clicks as `sharpness` grows, away from them where it is negative."""
        return softmax(self.reward_TA, temperature=1 / sharpness, floor=0.02)

    def lookalikes(self, num_policies: int) -> list[np.ndarray]:
        """Policies of one kind, whose values lie closer together than those of `target`."""
        rng = np.random.default_rng(7)
        noise = rng.normal(size=(num_policies, 1, self.reward_TA.shape[1])) * 0.5
        return [softmax(8 * self.reward_TA + each, temperature=1.0, floor=0.05) for each in noise]

    def value(self, policy_TA: np.ndarray) -> float:
        """Exact value per decision."""
        per_visit_T = (policy_TA * self.reward_TA).sum(axis=1)
        return float((self.num_visits_T * per_visit_T).sum() / self.num_visits_T.sum())

    def log(self, *, seed: int, num_users: int, target_TA: np.ndarray, with_model: bool = True) -> Decisions:
        rng = np.random.default_rng(seed)
        kind_U = rng.integers(len(self.num_visits_T), size=num_users)
        user_R = np.repeat(np.arange(num_users), self.num_visits_T[kind_U])
        kind_R = kind_U[user_R]
        action_R = drawn(self.logging_TA[kind_R], rng)
        num_rows = len(user_R)
        decisions = Decisions(
            user_R=user_R,
            slate_R=np.arange(num_rows),
            slot_R=np.ones(num_rows, dtype=np.int64),
            action_R=action_R + 1,
            reward_R=(rng.random(num_rows) < self.reward_TA[kind_R, action_R]).astype(np.float64),
            propensity_R=self.logging_TA[kind_R, action_R],
            target_propensity_R=target_TA[kind_R, action_R],
        )
        if not with_model:
            return decisions
        shown_RA = np.eye(self.reward_TA.shape[1])[action_R]
        context_RD = np.hstack([np.ones((num_rows, 1)), self.context_TD[kind_R]])
        return with_ridge_model(
            decisions,
            features_RD=_crossed(context_RD, shown_RA),
            expected_features_RD=_crossed(context_RD, target_TA[kind_R]),
            penalty=5.0,
            seed=seed,
        )


def _crossed(context_RD: np.ndarray, action_RA: np.ndarray) -> np.ndarray:
    return (context_RD[:, :, None] * action_RA[:, None, :]).reshape(len(context_RD), -1)


@dataclass(frozen=True)
class SequenceWorld:
    """Satisfaction rises and falls with what is shown; an unsatisfied user may leave for good.

    A user has two sequences that share a mood: an amount, 0 on average, that each reward of theirs is off by.
    """

    reward_GA: np.ndarray
    move_GAN: np.ndarray  # probability of the next state, the last entry being to leave
    logging_GA: np.ndarray
    num_steps: int = 6
    discount: float = 0.95
    mood_spread: float = 0.3

    @classmethod
    def make(cls, seed: int = 0, *, num_states: int = 6, num_actions: int = 3) -> SequenceWorld:
        """Action 0 pays at once and annoys, the last one pays less and pleases."""
        pleases_A = np.linspace(-0.5, 0.5, num_actions)
        state_G = np.arange(num_states)
        reward_GA = 0.2 + 0.3 * state_G[:, None] - 0.2 * pleases_A
        up_GA = np.clip(0.4 + 0.8 * pleases_A + 0 * state_G[:, None], 0.05, 0.9)
        leave_GA = np.clip(0.22 - 0.035 * state_G[:, None] - 0.1 * pleases_A, 0.01, 0.5)
        move_GAN = np.zeros((num_states, num_actions, num_states + 1))
        for state in state_G:
            move_GAN[state, :, min(state + 1, num_states - 1)] += up_GA[state] * (1 - leave_GA[state])
            move_GAN[state, :, max(state - 1, 0)] += (1 - up_GA[state]) * (1 - leave_GA[state])
            move_GAN[state, :, num_states] = leave_GA[state]
        preference_GA = np.random.default_rng(seed).normal(size=reward_GA.shape) * 0.5
        return cls(reward_GA, move_GAN, softmax(preference_GA, temperature=1.0, floor=0.4))

    def target(self, sharpness: float) -> np.ndarray:
        """(G, A) Towards the actions that please as `sharpness` grows."""
        score_A = np.linspace(-0.5, 0.5, self.reward_GA.shape[1])
        return softmax(np.tile(score_A, (len(self.reward_GA), 1)), temperature=1 / sharpness, floor=0.05)

    def lookalikes(self, num_policies: int) -> list[np.ndarray]:
        """Policies of one kind, whose values lie closer together than those of `target`."""
        rng = np.random.default_rng(7)
        score_A = np.linspace(-0.5, 0.5, self.reward_GA.shape[1])
        noise = rng.normal(size=(num_policies, *self.reward_GA.shape)) * 0.4
        return [softmax(score_A + each, temperature=1.0, floor=0.05) for each in noise]

    def value(self, policy_GA: np.ndarray, then_GA: np.ndarray | None = None, *, after: int = 0) -> float:
        """Exact discounted value of `policy_GA`; with `then_GA`, of it for `after` steps and then of that."""
        value_G = np.zeros(len(self.reward_GA))
        for step in reversed(range(self.num_steps)):
            acting_GA = policy_GA if then_GA is None or step < after else then_GA
            action_value_GA = self.reward_GA + self.discount * self.move_GAN[:, :, :-1] @ value_G
            value_G = (acting_GA * action_value_GA).sum(axis=1)
        return float(value_G.mean())

    def log(self, *, seed: int, num_users: int, target_GA: np.ndarray) -> LoggedSequences:
        rng = np.random.default_rng(seed)
        num_sequences, shape = 2 * num_users, (2 * num_users, self.num_steps)
        user_S = np.repeat(np.arange(num_users), 2)
        mood_S = np.repeat(rng.normal(size=num_users) * self.mood_spread, 2)
        state_SH, action_SH = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        mask_SH, reward_SH = np.zeros(shape, dtype=bool), np.zeros(shape)
        state_S, stays_S = rng.integers(len(self.reward_GA), size=num_sequences), np.ones(num_sequences, bool)
        for step in range(self.num_steps):
            action_S = drawn(self.logging_GA[state_S], rng)
            state_SH[:, step], action_SH[:, step], mask_SH[:, step] = state_S, action_S, stays_S
            reward_SH[:, step] = (
                self.reward_GA[state_S, action_S] + mood_S + 0.3 * rng.normal(size=num_sequences)
            )
            next_S = drawn(self.move_GAN[state_S, action_S], rng)
            stays_S = stays_S & (next_S < len(self.reward_GA))
            state_S = np.where(stays_S, next_S, 0)
        sequences = Sequences(
            user_S=user_S,
            mask_SH=mask_SH,
            reward_SH=reward_SH,
            propensity_SH=self.logging_GA[state_SH, action_SH],
            target_propensity_SH=target_GA[state_SH, action_SH],
            discount=self.discount,
        )
        state_SHG, shown_SHA = (
            np.eye(len(self.reward_GA))[state_SH],
            np.eye(self.reward_GA.shape[1])[action_SH],
        )
        return LoggedSequences(
            sequences,
            state_SHG,
            (state_SHG[..., None] * shown_SHA[..., None, :]).reshape(*shape, -1),
            (state_SHG[..., None] * target_GA[state_SH][..., None, :]).reshape(*shape, -1),
        )


@dataclass(frozen=True)
class LoggedSequences:
    sequences: Sequences
    state_SHG: np.ndarray
    features_SHD: np.ndarray
    expected_features_SHD: np.ndarray
