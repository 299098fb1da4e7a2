"""Champion and challenger: who serves, who may take over, and why."""

from recsys.promotion.champion import append_promotion, champion_path, check_name, rollback, switch_champion
from recsys.promotion.verdict import PerUser, PromotionRules, Verdict, judge

__all__ = [
    "PerUser",
    "PromotionRules",
    "Verdict",
    "append_promotion",
    "champion_path",
    "check_name",
    "judge",
    "rollback",
    "switch_champion",
]
