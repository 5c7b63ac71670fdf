"""Samples that spread evenly: one from each cell of a partition in which every cell holds as many candidates.

Symbols: n samples wanted, m n candidates, K coordinates.

The cells are those of a k-d tree (Bentley, "Multidimensional binary search trees used for associative searching", 1975) over
independent candidates. Every candidate is as likely to be chosen as any other, so each sample still has the candidates'
distribution; only they don't clump, and a set of n has a member near every point of what is sampled.
"""

import numpy as np
from jaxtyping import Float, Int


def stratified(points: Float[np.ndarray, "c K"], n: int, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Indices of n of the c points, one per cell. Only c // n * n of the points are used."""
    each = len(points) // n
    chosen = np.empty(n, int)
    waiting = [(np.arange(each * n), 0, n)]
    while waiting:
        members, first, cells = waiting.pop()
        if cells == 1:
            chosen[first] = generator.choice(members)
            continue
        axis = int(np.ptp(points[members], axis=0).argmax())
        left = cells // 2
        split = members[np.argsort(points[members, axis], kind="stable")]
        waiting += [(split[each * left :], first + left, cells - left), (split[: each * left], first, left)]
    return chosen
