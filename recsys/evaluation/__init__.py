"""Scoring, figures and comparisons of a trained bundle."""

from recsys.evaluation.evaluate import Evaluation, evaluate_bundle, per_user

__all__ = ["Evaluation", "evaluate_bundle", "per_user"]
