"""Which frames are looked at."""

import numpy as np

from pipelines.spread import frames_of_all


def test_objects_that_are_there_for_a_short_time_are_looked_at() -> None:
    registered = np.ones((3, 300), bool)
    registered[1] = False
    registered[1, 101:119] = True
    registered[2, 5:8] = True
    chosen = frames_of_all(registered, 16)
    assert chosen == sorted(set(chosen)) and len(chosen) <= 16 + 4
    assert registered[1, chosen].sum() >= 4
    assert frames_of_all(registered[[0, 2]], 16) == np.linspace(0, 299, 16).round().astype(int).tolist()
    registered[0, 101:119] = False
    assert not set(range(101, 119)) & set(frames_of_all(registered, 16)), "without a background there is no order"
