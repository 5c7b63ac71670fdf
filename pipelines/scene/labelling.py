"""Which scale combinations agree with the masks: counting, the rule for "valid", and candidates worth labelling.

Symbols
    H, K            combinations, scene columns; log scales x (H, K) with x[:, 0] = 0
    test            `x[front] - x[back] <= bound` on one ray (`pipelines.scene.orders`)
    violated        a ray is, when any of its tests is
    agreement       share of the tested rays that show the object that the mask says

The rule. A combination is valid when at most VIOLATED_SHARE of the rays are violated, after leaving out the rays that no
combination satisfies: those whose test fails over the whole initial range, and those that even the best combination found
violates (rays that contradict each other: contacts, wrong mask pixels, errors of the geometry). If more than
MAX_NOISE_SHARE of the rays are of the latter kind, the evidence contradicts itself and nothing is valid.
No combination is valid for being among the best few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from pipelines.scene.orders import OrderTests
from pipelines.scene.zone import Zone, tightest_zone, zone_at_share

VIOLATED_SHARE = 0.003
"""Share of all tested rays that a valid combination may violate, and that the bounds of the zone give up together.

Less than the 0.5 % of all rays that the truth may violate (DESIGN section 2): the rays that are violated first lie beside
outlines, where objects touch, and depths are unreliable there, so they are under-represented among the tested ones.
"""
MAX_NOISE_SHARE = 0.2
"""Share of the rays that may be left out because even the best combination violates them."""
DOUBTFUL_NOISE_SHARE = 0.05
"""From this share on, people are told that masks, poses or surfaces don't fit together well."""
_N_PROBES = 1024
"""Combinations among which the best is sought."""
_CHUNK = 1 << 22
"""Comparisons at a time: their masks fit in the cache hierarchy."""
_SURFACE_SPREAD = (0.01, 0.5)
"""Standard deviations of candidates about the zone's surface, as shares of the way to it."""


@dataclass(frozen=True)
class _Stack:
    """Rays with the same seen object and the same objects behind it: one row of bounds each."""

    front: int
    backs: tuple[int, ...]
    bounds: Float[np.ndarray, "n p"]


@dataclass(frozen=True)
class ViolationCounter:
    """Counts violated rays for thousands of combinations at once.

    Rays with one undecided test are sorted per pair of objects, so that a count is a binary search; the few with more are
    compared one by one.
    """

    pairs: tuple[tuple[int, int, Float[np.ndarray, " _"]], ...]
    stacks: tuple[_Stack, ...]
    n_rays: int
    """Rays that some combination within the ranges satisfies."""
    n_hopeless: int
    """Rays that none does."""

    @classmethod
    def from_tests(cls, tests: OrderTests, log_scale_range: Float[np.ndarray, "K 2"]) -> "ViolationCounter":
        """Keep the tests that the scales decide within their ranges."""
        low, high = log_scale_range[:, 0], log_scale_range[:, 1]
        hopeless = np.zeros(tests.n_rays, bool)
        hopeless[tests.ray[tests.bound < low[tests.front] - high[tests.back]]] = True
        open_ = ~hopeless[tests.ray] & (tests.bound < high[tests.front] - low[tests.back])
        ray, front, back, bound = tests.ray[open_], tests.front[open_], tests.back[open_], tests.bound[open_]
        tests_on_ray = np.bincount(ray, minlength=tests.n_rays)[ray]
        single = tests_on_ray == 1
        pairs = tuple(
            (int(code[0]), int(code[1]), np.sort(bound[single][rows]))
            for code, rows in _groups(np.stack([front[single], back[single]], axis=1))
        )
        stacks: list[_Stack] = []
        for depth in np.unique(tests_on_ray[~single]):
            # Tests are sorted by ray, so those of one ray stand together.
            at = tests_on_ray == depth
            backs, bounds = back[at].reshape(-1, depth), bound[at].reshape(-1, depth)
            codes = np.concatenate([front[at].reshape(-1, depth)[:, :1], backs], axis=1)
            stacks += [_Stack(int(code[0]), tuple(code[1:].tolist()), bounds[rows]) for code, rows in _groups(codes)]
        return cls(pairs, tuple(stacks), tests.n_rays - int(hopeless.sum()), int(hopeless.sum()))

    def violated(self, log_scale: Float[np.ndarray, "H K"]) -> Int[np.ndarray, " H"]:
        """Number of violated rays under each combination."""
        count = np.zeros(len(log_scale), np.int64)
        for front, back, bounds in self.pairs:
            count += np.searchsorted(bounds, log_scale[:, front] - log_scale[:, back], side="left")
        for stack in self.stacks:
            difference = log_scale[:, [stack.front]] - log_scale[:, stack.backs]
            rows = max(1, _CHUNK // len(stack.bounds))
            for start in range(0, len(log_scale), rows):
                some = difference[start : start + rows]
                fails = some[:, None, 0] > stack.bounds[:, 0]
                for p in range(1, len(stack.backs)):
                    fails |= some[:, None, p] > stack.bounds[:, p]
                count[start : start + rows] += np.count_nonzero(fails, axis=1)
        return count

    def agreement(self, log_scale: Float[np.ndarray, "H K"]) -> Float[np.ndarray, " H"]:
        """Share of rays that are not violated; 1 where there is no ray to say otherwise."""
        return 1.0 - self.violated(log_scale) / max(self.n_rays, 1)


@dataclass(frozen=True)
class Validity:
    """Everything that the evidence says about the scales: the zone, and the agreement of any combination."""

    zone: Zone
    counter: ViolationCounter
    noise_share: float
    """Share of the rays that even the best combination violates; they are left out of the zone and of the counter."""
    best: Float[np.ndarray, " K"]
    """That combination."""

    @property
    def is_contradictory(self) -> bool:
        """Too much of the evidence is violated by every combination: nothing is valid."""
        return self.zone.is_empty or self.noise_share > MAX_NOISE_SHARE

    @property
    def is_doubtful(self) -> bool:
        """The evidence can be used, but a good part of it is violated by every combination."""
        return self.noise_share > DOUBTFUL_NOISE_SHARE

    def valid(self, log_scale: Float[np.ndarray, "H K"]) -> Bool[np.ndarray, " H"]:
        """Label of each combination."""
        if self.is_contradictory:
            return np.zeros(len(log_scale), bool)
        return self.counter.violated(log_scale) <= VIOLATED_SHARE * self.counter.n_rays


def assess(
    tests: OrderTests,
    log_scale_range: Float[np.ndarray, "K 2"],
    assumed_columns: Sequence[int] = (),
) -> Validity:
    """Zone and labels from the tests, after leaving out the rays that no combination satisfies.

    The tightest zone without contradiction gives candidates; the best of them says which rays are noise; the final zone comes
    from the others, so it contains that one. The candidates are always the same: where the evidence contradicts itself,
    training and sampling must leave out the same rays, or what one calls valid agrees with nothing that the other knows.
    """
    counter = ViolationCounter.from_tests(tests, log_scale_range)
    tightest = tightest_zone(tests, log_scale_range, MAX_NOISE_SHARE, assumed_columns)
    probes = draw_candidates(tightest, log_scale_range, _N_PROBES, np.random.default_rng(0))
    violated = counter.violated(probes)
    best = probes[violated.argmin()]
    noise_share = float(counter.n_hopeless + violated.min()) / max(tests.n_rays, 1)
    if tightest.is_empty or noise_share > MAX_NOISE_SHARE:
        return Validity(tightest, counter, noise_share, best)
    kept = without_violated(tests, best)
    return Validity(
        zone_at_share(kept, log_scale_range, VIOLATED_SHARE, assumed_columns),
        ViolationCounter.from_tests(kept, log_scale_range),
        noise_share,
        best,
    )


def without_violated(tests: OrderTests, log_scale: Float[np.ndarray, " K"]) -> OrderTests:
    """The tests of the rays that a combination satisfies."""
    fails = log_scale[tests.front] - log_scale[tests.back] > tests.bound
    kept_ray = np.ones(tests.n_rays, bool)
    kept_ray[tests.ray[fails]] = False
    kept = kept_ray[tests.ray]
    return replace(
        tests,
        ray=(np.cumsum(kept_ray) - 1)[tests.ray[kept]],
        front=tests.front[kept],
        back=tests.back[kept],
        bound=tests.bound[kept],
        guessed=tests.guessed[kept],
        ray_frame=tests.ray_frame[kept_ray],
        ray_xy_px=tests.ray_xy_px[kept_ray],
    )


def draw_candidates(
    zone: Zone, log_scale_range: Float[np.ndarray, "K 2"], n: int, generator: np.random.Generator
) -> Float[np.ndarray, "n K"]:
    """Combinations that teach: a quarter uniform in the ranges, an eighth in the zone, the others about the zone's surface.

    With many objects uniform combinations are all invalid. A surface point lies where a line from a point of the zone, in a
    random direction, leaves it; candidates spread about it along that line by 1 % to 50 % of the way: where the valid set is
    narrow, a shell of a hundredth of the range is a good part of its volume, and only candidates that close tell where it ends.
    An empty zone leaves the uniform ones.
    """
    low, high = log_scale_range.T
    if zone.is_empty:
        return low + generator.random((n, len(low))) * (high - low)
    n_uniform, n_inside = n // 4, n // 8
    n_surface = n - n_uniform - n_inside
    uniform = low + generator.random((n_uniform, len(low))) * (high - low)
    inside = zone.sample(n_inside + n_surface, generator)
    origin, towards = inside[n_inside:], generator.standard_normal((n_surface, len(low))) * (high - low)
    spread = np.exp(generator.uniform(np.log(_SURFACE_SPREAD[0]), np.log(_SURFACE_SPREAD[1]), n_surface))
    reach = zone.exit_along(origin, towards) * np.maximum(1 + spread * generator.standard_normal(n_surface), 0)
    surface = np.clip(origin + reach[:, None] * towards, low, high)
    return np.concatenate([uniform, inside[:n_inside], surface])


def _groups(codes: Integer[np.ndarray, "n c"]) -> list[tuple[Int[np.ndarray, " c"], Int[np.ndarray, " _"]]]:
    """Row indices of each distinct row."""
    if len(codes) == 0:
        return []
    distinct, member = np.unique(codes, axis=0, return_inverse=True)
    member = member.ravel()
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(len(distinct)))
    return list(zip(distinct.astype(int), np.split(order, starts[1:]), strict=True))


def violated_pairs(tests: OrderTests, log_scale: Float[np.ndarray, " K"]) -> list[tuple[int, int, float]]:
    """Pairs (seen, should be behind) that a combination puts in the wrong order, with their shares of all rays, worst first."""
    fails = log_scale[tests.front] - log_scale[tests.back] > tests.bound
    codes = np.stack([tests.front[fails], tests.back[fails]], axis=1).astype(int)
    shares = [(int(code[0]), int(code[1]), len(rows) / max(tests.n_rays, 1)) for code, rows in _groups(codes)]
    return sorted(shares, key=lambda pair: -pair[2])
