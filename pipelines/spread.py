"""Fewer frames, views or rows than there are, evenly spread over all."""

import numpy as np
from jaxtyping import Int


def evenly_spread(items: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) == 0:
        return items
    return items[np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]
