"""The scale zone: everything that pairwise occlusion says about the scales, as a set that can be sampled exactly.

Symbols
    K               scene columns; column 0 is the background
    x               log scales (K,), x[0] = 0: the background's unit is the world's
    bounds[i, j]    `x[i] - x[j] <= bounds[i, j]`; +inf where nothing is known, 0 on the diagonal
    closed          the shortest-path closure of `bounds`: the tightest bounds that follow from all of them

Such a set is a difference-bound matrix (Dill, "Timing Assumptions and Verification of Finite-State Concurrent Systems",
1989). Its closure gives the exact interval of every object and every pair, also after some scales are fixed; a negative
cycle proves that no scales satisfy all bounds and names the culprits. Column 0 carries each object's near and far limit as
bounds against x[0] = 0.

A few rays lie (masks have wrong pixels), so `allowed` tests may be violated. A bound is not the smallest of its pair's
tests but the value at which that many are violated, and the pairs share one allowance: the smallest tests of each pair, its
`tail`, are kept, and a member of the zone violates at most `allowed` tests in all. The bounds enclose that set, carry its
intervals and explanations, and propose its samples. (On scenes with five and eight movers, bounds alone enclosed 1.4 and 3
times the volume of the set.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.errors import ReconstructionError, WorkspaceError
from pipelines.scene import zone_sampling
from pipelines.scene.orders import OrderTests
from pipelines.scene.zone_sampling import Measure

_BISECTIONS = 8
_MAX_DRAWS, _MAX_BATCH = 4_000_000, 65_536
"""How many members of the bounds are looked at for members of the zone, in all and at a time."""
_ARRAYS = ("bounds", "frame", "xy_px", "assumed", "guessed")


@dataclass(frozen=True)
class Bound:
    """`x[front] - x[back] <= limit`, and where it comes from."""

    front: int
    back: int
    limit: float
    frame: int | None
    """Frame and full-size pixel of the ray that sets it; None for a near or far limit."""
    xy_px: tuple[float, float] | None
    assumed: bool
    """It does not come from the video: a near or far limit, or it leans on geometry that is itself assumed."""
    guessed: bool = False
    """The hidden surface was never seen at that ray: its depth is continued from what was seen around."""

    def describe(self, names: Sequence[str]) -> str:
        """One clause for people."""
        if self.frame is None or self.xy_px is None:
            column, side = (self.front, "far") if self.back == 0 else (self.back, "near")
            return f"the {side} limit of {names[column]}"
        x, y = self.xy_px
        doubt = " (assumed depth)" if self.assumed else " (never seen there, depth from around)" if self.guessed else ""
        return f"{names[self.front]} hides {names[self.back]} in frame {self.frame} at pixel ({x:.1f}, {y:.1f}){doubt}"


@dataclass(frozen=True)
class Contradiction:
    """A cycle of bounds that no scales satisfy: added up they say `0 <= excess` with a negative excess."""

    bounds: tuple[Bound, ...]
    excess: float

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(bound.front for bound in self.bounds)

    def describe(self, names: Sequence[str]) -> str:
        """One line for people."""
        factor = np.exp(-self.excess)
        clauses = ", ".join(bound.describe(names) for bound in self.bounds)
        return f"no scales agree with all of these, they are off by a factor of {factor:.3g}: {clauses}"


@dataclass(frozen=True)
class Zone:
    """The set of log scales within difference bounds, and the evidence behind each bound."""

    bounds: Float[np.ndarray, "K K"]
    frame: Int[np.ndarray, "K K"]
    """Frame and full-size pixel of the ray that sets each bound; -1 and NaN where it is a limit or there is none."""
    xy_px: Float[np.ndarray, "K K 2"]
    assumed: Bool[np.ndarray, "K K"]
    guessed: Bool[np.ndarray, "K K"]
    violated_share: float
    """Share of all tested rays whose tests may be violated."""
    allowed: int = 0
    """That share as a number of tests."""
    tails: tuple[tuple[int, int, Float[np.ndarray, " _"]], ...] = ()
    """Per ordered pair (i, j) its `allowed + 1` smallest tests of `x[i] - x[j]`, sorted."""

    @property
    def n_columns(self) -> int:
        return len(self.bounds)

    @cached_property
    def closed(self) -> Float[np.ndarray, "K K"]:
        """All-pairs shortest paths (Floyd, Warshall). Meaningless when there is a contradiction."""
        return self._closure[0]

    @cached_property
    def _closure(self) -> tuple[Float[np.ndarray, "K K"], Int[np.ndarray, "K K"]]:
        """Closed bounds, and the column that follows i on the tightest chain from i to j."""
        closed = self.bounds.copy()
        follows = np.broadcast_to(np.arange(self.n_columns), closed.shape).copy()
        for via in range(self.n_columns):
            detour = closed[:, via, None] + closed[None, via, :]
            shorter = detour < closed - 1e-12
            closed = np.where(shorter, detour, closed)
            follows = np.where(shorter, follows[:, via, None], follows)
        return closed, follows

    @cached_property
    def contradiction(self) -> Contradiction | None:
        """The bounds to blame when no scales satisfy all (Bellman, Ford: a path that still shortens after K rounds cycles)."""
        distance, previous = np.zeros(self.n_columns), np.zeros(self.n_columns, int)
        shortened = np.zeros(0, int)
        for _ in range(self.n_columns):
            paths = distance[:, None] + self.bounds
            best = paths.argmin(0)
            reached = paths[best, np.arange(self.n_columns)]
            shortened = np.nonzero(reached < distance - 1e-9)[0]
            previous[shortened] = best[shortened]
            distance[shortened] = reached[shortened]
        if len(shortened) == 0:
            return None
        column = int(shortened[0])
        for _ in range(self.n_columns):
            column = int(previous[column])
        cycle = [column]
        while previous[cycle[-1]] != column:
            cycle.append(int(previous[cycle[-1]]))
        cycle.reverse()
        bounds = tuple(self._bound(i, j) for i, j in zip(cycle, cycle[1:] + cycle[:1], strict=True))
        return Contradiction(bounds, float(sum(bound.limit for bound in bounds)))

    @property
    def is_empty(self) -> bool:
        return self.contradiction is not None

    @property
    def intervals(self) -> Float[np.ndarray, "K 2"]:
        """Smallest and largest log scale of each object over the zone."""
        return np.stack([-self.closed[0], self.closed[:, 0]], axis=1)

    def pair_interval(self, i: int, j: int) -> tuple[float, float]:
        """Smallest and largest `x[i] - x[j]` over the zone."""
        return float(-self.closed[j, i]), float(self.closed[i, j])

    def given(self, fixed: Mapping[int, float]) -> Float[np.ndarray, "K 2"]:
        """Interval of every object once the log scales of some columns are fixed (a slider's range while others stand).

        An interval with its ends the wrong way round is empty: the fixed scales lie outside the zone.
        """
        columns = np.array([0, *(k for k in fixed if k != 0)])
        values = np.array([0.0, *(x for k, x in fixed.items() if k != 0)])
        low = (values[:, None] - self.closed[columns]).max(0)
        high = (values[:, None] + self.closed[:, columns].T).min(0)
        return np.stack([low, high], axis=1)

    def explain(self, i: int, j: int) -> list[Bound]:
        """The chain of bounds that adds up to the tightest one on `x[i] - x[j]`; empty when nothing bounds it."""
        if not np.isfinite(self.closed[i, j]):
            return []
        follows, chain = self._closure[1], []
        while i != j:
            step = int(follows[i, j])
            chain.append(self._bound(i, step))
            i = step
        return chain

    def explain_interval(self, column: int) -> tuple[list[Bound], list[Bound]]:
        """What sets the smallest and the largest scale of an object."""
        return self.explain(0, column), self.explain(column, 0)

    def contains(self, log_scale: Float[np.ndarray, "n K"]) -> Bool[np.ndarray, " n"]:
        """Membership of many combinations."""
        inside = np.ones(len(log_scale), bool)
        for i, j in zip(*np.nonzero(np.isfinite(self.bounds) & ~np.eye(self.n_columns, dtype=bool)), strict=True):
            inside &= log_scale[:, i] - log_scale[:, j] <= self.bounds[i, j]
        inside[inside] = self._within_allowance(log_scale[inside])
        return inside

    def _within_allowance(self, log_scale: Float[np.ndarray, "n K"]) -> Bool[np.ndarray, " n"]:
        """Whether all pairs together violate few enough tests."""
        violated = np.zeros(len(log_scale), int)
        for i, j, tail in self.tails:
            violated += np.searchsorted(tail, log_scale[:, i] - log_scale[:, j], side="left")
        return violated <= self.allowed

    def exit_along(self, origin: Float[np.ndarray, "n K"], towards: Float[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
        """A t in [0, 1] at which `origin + t towards` leaves the zone (to 2^-16), 1 if it never does; `origin` is inside."""
        inside, outside = np.zeros(len(origin)), np.ones(len(origin))
        inside[self.contains(origin + towards)] = 1.0
        for _ in range(16):
            middle = (inside + outside) / 2
            within = self.contains(origin + middle[:, None] * towards)
            inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
        return inside

    def sample(self, n: int, generator: np.random.Generator, measure: Measure = Measure.LOG) -> Float[np.ndarray, "n K"]:
        """Independent combinations, exactly uniform over the zone (see `zone_sampling` for the one exception).

        Where four million draws from the bounds don't hold enough members, the missing ones come from the zone's inner part in
        which every pair keeps to an equal share of the allowance.
        Raises ReconstructionError: the zone is empty.
        """
        self.require_nonempty()
        found, n_found, n_drawn, size = [np.zeros((0, self.n_columns))], 0, 0, min(n, _MAX_BATCH)
        while n_found < n and n_drawn < _MAX_DRAWS:
            x = zone_sampling.sample(self.closed, size, generator, measure)
            found.append(x[self._within_allowance(x)])
            n_found, n_drawn = n_found + len(found[-1]), n_drawn + size
            size = int(np.clip(1.2 * (n - n_found) * n_drawn / max(n_found, 1), 64, _MAX_BATCH))
        if n_found < n:
            found.append(zone_sampling.sample(self._inner().closed, n - n_found, generator, measure))
        return np.concatenate(found)[:n]

    def _inner(self) -> "Zone":
        """The part in which every pair keeps to an equal share of the allowance; all within the bounds if that is empty."""
        each = self.allowed // max(len(self.tails), 1)
        bounds = self.bounds.copy()
        for i, j, tail in self.tails:
            bounds[i, j] = min(bounds[i, j], tail[each] if len(tail) > each else np.inf)
        inner = replace(self, bounds=bounds)
        return self if inner.is_empty else inner

    def volume(self, generator: np.random.Generator, measure: Measure = Measure.LOG) -> tuple[float, float]:
        """Unbiased estimate of the zone's volume in the K-1 free log scales (or scales), and its standard error."""
        if self.is_empty:
            return 0.0, 0.0
        enclosed, error = zone_sampling.volume(self.closed, generator, measure)
        if not self.tails:
            return enclosed, error
        share = self._within_allowance(zone_sampling.sample(self.closed, 4096, generator, measure)).mean()
        return float(enclosed * share), float(np.hypot(error * share, enclosed * np.sqrt(share * (1 - share) / 4096)))

    def require_nonempty(self, names: Sequence[str] | None = None) -> None:
        """Raises ReconstructionError, naming objects, frames and pixels to blame, when the zone is empty."""
        if self.contradiction is None:
            return
        names = names or [f"object {k}" if k else "the background" for k in range(self.n_columns)]
        blamed = self.contradiction.describe(names)
        raise ReconstructionError(f"{blamed}; look at the masks there, or widen train.near_share and train.far_share")

    def _bound(self, i: int, j: int) -> Bound:
        frame, (x, y) = int(self.frame[i, j]), self.xy_px[i, j]
        limit, assumed = float(self.bounds[i, j]), bool(self.assumed[i, j])
        if frame < 0:
            return Bound(i, j, limit, None, None, assumed)
        return Bound(i, j, limit, frame, (float(x), float(y)), assumed, bool(self.guessed[i, j]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, for an npz file."""
        tails = [tail for *_, tail in self.tails]
        return {
            **{name: getattr(self, name) for name in _ARRAYS},
            "violated_share": np.array(self.violated_share),
            "allowed": np.array(self.allowed),
            "tail_pairs": np.array([pair for *pair, _ in self.tails], int).reshape(-1, 2),
            "tail_ends": np.cumsum([len(tail) for tail in tails], dtype=int),
            "tail_values": np.concatenate([np.zeros(0), *tails]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Zone":
        values = np.split(arrays["tail_values"], arrays["tail_ends"])
        tails = tuple((int(i), int(j), tail) for (i, j), tail in zip(arrays["tail_pairs"], values, strict=False))
        missing = [name for name in _ARRAYS if name not in arrays]
        if missing:
            raise WorkspaceError(f"the stored zone is of an older version (it has no {missing[0]}): run osn train again")
        named: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
        return cls(**named, violated_share=float(arrays["violated_share"]), allowed=int(arrays["allowed"]), tails=tails)


def zone_at_share(
    tests: OrderTests,
    log_scale_range: Float[np.ndarray, "K 2"],
    violated_share: float,
    assumed_columns: Sequence[int] = (),
) -> Zone:
    """The zone in which the given share of all tested rays may be violated.

    log_scale_range: near and far limit of each object (column 0: 0, 0), flagged as assumptions.
    assumed_columns: columns whose geometry is itself assumed (a background without parallax); bounds that lean on them are
    flagged.
    """
    n = tests.n_columns
    bounds = np.where(np.eye(n, dtype=bool), 0.0, np.inf)
    bounds[1:, 0], bounds[0, 1:] = log_scale_range[1:, 1], -log_scale_range[1:, 0]
    frame, xy_px, assumed = np.full((n, n), -1), np.full((n, n, 2), np.nan), np.isfinite(bounds)
    np.fill_diagonal(assumed, False)
    guessed = np.zeros((n, n), bool)
    allowed = int(violated_share * tests.n_rays)
    tails = []
    for i, j, rows in _by_pair(tests):
        if len(rows) > allowed:
            rows = rows[np.argpartition(tests.bound[rows], allowed)[: allowed + 1]]
        tail = rows[np.argsort(tests.bound[rows])]
        # Tests that hold all over the ranges are never violated.
        tail = tail[tests.bound[tail] < log_scale_range[i, 1] - log_scale_range[j, 0]]
        if len(tail):
            tails.append((i, j, tests.bound[tail]))
        if len(tail) <= allowed or tests.bound[tail[allowed]] >= bounds[i, j]:
            continue
        binding = tail[allowed]
        bounds[i, j] = tests.bound[binding]
        ray = tests.ray[binding]
        frame[i, j], xy_px[i, j] = tests.ray_frame[ray], tests.ray_xy_px[ray]
        assumed[i, j], guessed[i, j] = i in assumed_columns or j in assumed_columns, tests.guessed[binding]
    return Zone(bounds, frame, xy_px, assumed, guessed, violated_share, allowed, tuple(tails))


def tightest_zone(
    tests: OrderTests,
    log_scale_range: Float[np.ndarray, "K 2"],
    max_violated_share: float,
    assumed_columns: Sequence[int] = (),
) -> Zone:
    """The zone at (nearly) the smallest share of violated rays that leaves no contradiction: around the best combinations.

    Empty, at the largest share, when even that one contradicts itself.
    """
    zone = zone_at_share(tests, log_scale_range, 0.0, assumed_columns)
    if not zone.is_empty:
        return zone
    too_small, share = 0.0, max_violated_share
    zone = zone_at_share(tests, log_scale_range, share, assumed_columns)
    if zone.is_empty:
        return zone
    for _ in range(_BISECTIONS):
        middle = (too_small + share) / 2
        smaller = zone_at_share(tests, log_scale_range, middle, assumed_columns)
        if smaller.is_empty:
            too_small = middle
        else:
            share, zone = middle, smaller
    return zone


def _by_pair(tests: OrderTests) -> list[tuple[int, int, Int[np.ndarray, " _"]]]:
    """Rows of the tests grouped by ordered pair of columns."""
    pair = tests.front.astype(int) * tests.n_columns + tests.back
    order = np.argsort(pair, kind="stable")
    codes, starts = np.unique(pair[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(codes) else []
    return [(int(c) // tests.n_columns, int(c) % tests.n_columns, rows) for c, rows in zip(codes, groups, strict=True)]
