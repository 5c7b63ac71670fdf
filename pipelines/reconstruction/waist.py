"""Where hardly any of an object's tracks reach from its earlier frames to its later ones.

Either something hid the object there, or the mask holds two movers that passed each other, one after the other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from pipelines.reconstruction.sightings import Sightings

MIN_TRACKS = 60
"""So many tracks are seen at once in some frame on either side of a waist."""
NARROW = 0.3
"""Fewer tracks than this share of those on either side reach across a waist that is worth asking about."""


@dataclass(frozen=True)
class Waist:
    """Between `frame` and the next one. share: tracks that reach across it over the most that a frame of either side shows."""

    frame: int
    share: float

    @property
    def is_narrow(self) -> bool:
        return self.share < NARROW


def waist_of(sightings: Sightings) -> Waist:
    """The narrowest one; of share 1 where one side never has enough tracks."""
    first, last = _lifetimes(sightings)
    n_seen = sightings.seen.sum(1)
    narrowest = Waist(0, 1.0)
    for t in range(sightings.n_frames - 1):
        most = int(min(n_seen[: t + 1].max(), n_seen[t + 1 :].max()))
        across = int(((first <= t) & (last > t)).sum())
        if most >= MIN_TRACKS and across < narrowest.share * most:
            narrowest = Waist(t, across / most)
    return narrowest


def halves_in_time(sightings: Sightings) -> Int[np.ndarray, " P"] | None:
    """The earlier (0) and the later (1) tracks; None where there is no narrow waist."""
    waist = waist_of(sightings)
    first, last = _lifetimes(sightings)
    return ((first + last) / 2 > waist.frame).astype(int) if waist.is_narrow else None


def _lifetimes(sightings: Sightings) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """First and last frame of each track."""
    return sightings.seen.argmax(0), sightings.n_frames - 1 - sightings.seen[::-1].argmax(0)
