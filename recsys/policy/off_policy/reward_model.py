"""A linear reward model, fitted on other users than it predicts for (cross-fitting).

A linear model knows the expectation under a policy from the expected features alone, sum_a target(a) q(a) =
theta . sum_a target(a) phi(a), so no table over all actions is needed.

Legend: R decisions, D features.
"""

from __future__ import annotations

import numpy as np

from recsys.policy.off_policy.decisions import Decisions


def with_ridge_model(
    decisions: Decisions,
    *,
    features_RD: np.ndarray,
    expected_features_RD: np.ndarray,
    penalty: float = 1.0,
    num_folds: int = 3,
    seed: int = 0,
) -> Decisions:
    """`decisions` with the predictions of a ridge regression of the reward on `features_RD`.

    `features_RD` describes the context and the logged action, `expected_features_RD` is its expectation under
    the target policy; a constant is added. Users are dealt into folds at random and each fold is predicted by
    the fit on the others: no user's reward predicts itself (Chernozhukov et al. 2018, definition 3.2).
    """
    fold_R = _folds(decisions, num_folds, seed)[decisions.user_index_R]
    predicted_R = np.empty(len(fold_R))
    expected_R = np.empty(len(fold_R))
    for fold in range(num_folds):
        is_held = fold_R == fold
        theta_D, intercept = ridge(features_RD[~is_held], decisions.reward_R[~is_held], penalty=penalty)
        predicted_R[is_held] = features_RD[is_held] @ theta_D + intercept
        expected_R[is_held] = expected_features_RD[is_held] @ theta_D + intercept
    return decisions.with_reward_model(predicted_R=predicted_R, expected_R=expected_R)


def ridge(features_RD: np.ndarray, target_R: np.ndarray, *, penalty: float) -> tuple[np.ndarray, float]:
    """Coefficients and the intercept, which is not penalised (Hoerl & Kennard 1970)."""
    mean_D, mean = features_RD.mean(axis=0), target_R.mean()
    centred_RD = features_RD - mean_D
    gram_DD = centred_RD.T @ centred_RD + penalty * np.eye(features_RD.shape[1])
    theta_D = np.linalg.solve(gram_DD, centred_RD.T @ (target_R - mean))
    return theta_D, float(mean - mean_D @ theta_D)


def _folds(decisions: Decisions, num_folds: int, seed: int) -> np.ndarray:
    """(U,) The fold of each user, as even as can be."""
    return np.random.default_rng(seed).permutation(decisions.num_users) % num_folds
