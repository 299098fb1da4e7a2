"""Kept events -> the feature tables of `recsys.schema`."""
