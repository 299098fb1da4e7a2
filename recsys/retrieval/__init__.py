"""Vectors -> the best items of each user, over a whole catalogue."""
