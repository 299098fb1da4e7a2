"""Fitted-Q evaluation with linear functions of given features, one regression a step from the last back.

    theta_t = argmin sum_S (r_t + discount V_{t+1} - phi_t . theta)^2 + penalty |theta|^2
    V_t     = phi_target_t . theta_t,   0 after the end

(Le, Voloshin & Yue 2019, algorithm 3; linear as in Duan, Jia & Wang 2020, eq. 3.) It needs
neither long products of weights nor exact propensities, but the value must be near linear in the features.

Its spread comes from the influence of each user on the stacked regressions (Hao et al. 2021 show the
bootstrap over trajectories right for this estimate; the influence is its first-order form). With
A_t = mean(phi_t phi_t'), M_t = mean(phi_t phi_target_{t+1}'), c_0 = A_0^-1 mean(phi_target_0) and
c_{t+1} = discount A_{t+1}^-1 M_t' c_t, a sequence adds
V_0 + sum_t c_t . phi_t (r_t + discount V_{t+1} - Q_t).

Legend: S sequences, H steps, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys.policy.off_policy.contributions import Contributions
from recsys.policy.off_policy.sequences import Sequences

_LEAST_PENALTY = 1e-9  # keeps a step that no sequence reached solvable


@dataclass(frozen=True)
class FittedQ:
    """Values from each step on, of the logged action and under the target policy; 0 after the end."""

    predicted_SH: np.ndarray
    expected_SH: np.ndarray
    contributions: Contributions  # mean value of the first step under the target policy


def fitted_q(
    sequences: Sequences, *, features_SHD: np.ndarray, expected_features_SHD: np.ndarray, penalty: float = 0.1
) -> FittedQ:
    """`features_SHD` describes state and logged action; `expected_features_SHD` is its expectation over the
    target policy's action in the same state. A constant is added, which is not penalised. Both are ignored
    outside the mask."""
    phi_SHD = _with_constant(features_SHD, sequences.mask_SH)
    phi_target_SHD = _with_constant(expected_features_SHD, sequences.mask_SH)
    num_sequences, num_steps, num_features = phi_SHD.shape
    penalty_D = np.full(num_features, penalty)
    penalty_D[0] = _LEAST_PENALTY
    inverse_HDD = np.empty((num_steps, num_features, num_features))
    theta_HD = np.empty((num_steps, num_features))
    residual_SH = np.zeros((num_sequences, num_steps))
    value_S = np.zeros(num_sequences)
    for step in reversed(range(num_steps)):
        phi_SD = phi_SHD[:, step]
        earned_S = np.where(sequences.mask_SH[:, step], sequences.reward_SH[:, step], 0.0)
        target_S = earned_S + sequences.discount * value_S
        gram_DD = (phi_SD.T @ phi_SD + np.diag(penalty_D)) / num_sequences
        inverse_HDD[step] = np.linalg.inv(gram_DD)
        theta_HD[step] = inverse_HDD[step] @ (phi_SD.T @ target_S) / num_sequences
        residual_SH[:, step] = target_S - phi_SD @ theta_HD[step]
        value_S = phi_target_SHD[:, step] @ theta_HD[step]
    spread_S = _spread(sequences.discount, phi_SHD, phi_target_SHD, inverse_HDD, residual_SH)
    return FittedQ(
        predicted_SH=np.einsum("shd,hd->sh", phi_SHD, theta_HD),
        expected_SH=np.einsum("shd,hd->sh", phi_target_SHD, theta_HD),
        contributions=sequences.mean(value_S + spread_S),
    )


def _with_constant(features_SHD: np.ndarray, mask_SH: np.ndarray) -> np.ndarray:
    """The constant first; all 0 outside the mask."""
    constant_SH1 = np.ones((*mask_SH.shape, 1))
    return np.where(mask_SH[:, :, None], np.concatenate([constant_SH1, features_SHD], axis=2), 0.0)


def _spread(
    discount: float,
    phi_SHD: np.ndarray,
    phi_target_SHD: np.ndarray,
    inverse_HDD: np.ndarray,
    residual_SH: np.ndarray,
) -> np.ndarray:
    """(S,) What each sequence moves the value by through the regressions; sums to 0."""
    num_sequences, num_steps, _ = phi_SHD.shape
    spread_S = np.zeros(num_sequences)
    gradient_D = phi_target_SHD[:, 0].mean(axis=0)
    for step in range(num_steps):
        coefficient_D = inverse_HDD[step] @ gradient_D
        moved_S = (phi_SHD[:, step] @ coefficient_D) * residual_SH[:, step]
        spread_S += moved_S - moved_S.mean()  # the penalty leaves a mean that is no sampling error
        if step + 1 < num_steps:
            cross_DD = phi_SHD[:, step].T @ phi_target_SHD[:, step + 1] / num_sequences
            gradient_D = discount * cross_DD.T @ coefficient_D
    return spread_S
