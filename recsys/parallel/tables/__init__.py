"""Item tables that outgrow one device: rows dealt over the ranks, stepped sparsely beside the dense part."""

from recsys.parallel.tables.checkpoint import load_tables, save_tables
from recsys.parallel.tables.model import over_ranks, user_model
from recsys.parallel.tables.steps import StepsTables, tables_of
from recsys.parallel.tables.table import ShardedTable

__all__ = [
    "ShardedTable",
    "StepsTables",
    "load_tables",
    "over_ranks",
    "save_tables",
    "tables_of",
    "user_model",
]
