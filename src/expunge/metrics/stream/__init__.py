"""Scores that are gathered batch by batch: images come, are measured and forgotten; features, values and counts stay.

Every accumulator has `add(items, ...)`, `merge(other)`, `state` and `from_state`, and gives `records.Score`s. An item
is (prompt, seed); the prompt may be any label, such as a hash of a text that nobody should keep.
"""
