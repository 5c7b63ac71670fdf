"""Fewer frames, views or rows than there are, evenly spread over all."""

import numpy as np
from jaxtyping import Bool, Int


def frames_of_all(registered: Bool[np.ndarray, "K T"], most: int, least: int = 4) -> list[int]:
    """Frames that show every object: `most`, evenly spread over those in which the background has a pose, and some more for
    objects that are there for a short time only, until each has `least` of them, or all that it has."""
    chosen = set(evenly_spread(np.flatnonzero(registered[0]), most).tolist())
    for own in registered[1:] & registered[0]:
        if sum(own[t] for t in chosen) < least:
            chosen.update(evenly_spread(np.flatnonzero(own), least).tolist())
    return sorted(chosen)


def evenly_spread(items: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """At most so many of the items, evenly spread, the first and the last among them."""
    if len(items) == 0:
        return items
    return items[np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]
