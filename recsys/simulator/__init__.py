"""A market whose users' true long-term value is known: plain numpy, a day at a time.

Legend of every file here: U users (from 0), V items (from 1; entry 0 pads), B users present on a day,
K slots, C candidates, T topics, P purchases put off.
"""
