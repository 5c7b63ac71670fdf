"""Exact uniform samples of a set of difference bounds.

Symbols
    b               closed bounds (K, K), `x[i] - x[j] <= b[i, j]`, x[0] = 0, without contradiction

Objects that no bound ties to each other, except through the background, are independent, so the set is a product of small
parts. Each part is sampled by the first of three ways that is fast enough:

1.  Rejection. Draw the objects one after another, each uniform in its interval given the earlier ones (closed bounds give it
    exactly), and accept with probability `prod(lengths) / bound`. A draw's density is `1 / prod(lengths)`, so what is
    accepted is uniform. Taking next the object whose interval is the shortest it can be given the earlier ones (Prim's
    spanning tree) makes the bound tight. The mean of `prod(lengths)` over the draws is an unbiased estimate of the volume.
2.  Perfect simulation. Single-site Gibbs updates are monotone on this set (it is a lattice: closed under elementwise minimum
    and maximum), so once the trajectories from its least and its greatest element meet, the start is forgotten. Read-once
    coupling from the past (Wilson, "How to couple from the past using a read-once source of randomness", 2000) makes exact
    samples of that. The coupling of the updates is our own: one shared point, uniform over both trajectories' intervals; an
    interval that contains it moves there, so that trajectories really meet; any other moves to a shared quantile of itself.
    Both rules keep the order.
3.  Importance resampling of the draws of 1, only approximately uniform: for sets so elongated that the trajectories of 2 do not
    meet in time. It has not been seen on real scenes.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float, Int

_PILOT = 4096
_MIN_ACCEPTANCE = 2e-3
_MAX_SWEEPS = 2048


class Measure(StrEnum):
    """In which variable samples are uniform."""

    LOG = "log"
    """In x, the logarithms of the scales."""
    LINEAR = "linear"
    """In the scales exp(x)."""


@dataclass(frozen=True)
class _Draws:
    """Sequential draws of one part: positions and the logs of `prod(lengths)`, and the largest value the latter can take."""

    x: Float[np.ndarray, "n m"]
    log_weight: Float[np.ndarray, " n"]
    log_bound: float


def sample(b: Float[np.ndarray, "K K"], n: int, generator: np.random.Generator, measure: Measure) -> Float[np.ndarray, "n K"]:
    """n independent points, uniform over the set."""
    x = np.zeros((n, len(b)))
    for part in parts(b):
        x[:, part] = _sample_part(b, part, n, generator, measure)
    return x


def volume(b: Float[np.ndarray, "K K"], generator: np.random.Generator, measure: Measure) -> tuple[float, float]:
    """Estimate of the volume over all objects but the background, and its standard error (0 where it is exact)."""
    total, relative_variance = 1.0, 0.0
    for part in parts(b):
        weight = np.exp(_draw(b, part, 1 if len(part) == 1 else 4 * _PILOT, generator, measure).log_weight)
        total *= float(weight.mean())
        if len(part) > 1 and weight.mean() > 0:
            relative_variance += float(weight.var() / weight.mean() ** 2 / len(weight))
    return total, total * relative_variance**0.5


def parts(b: Float[np.ndarray, "K K"]) -> list[Int[np.ndarray, " _"]]:
    """Objects grouped so that no bound ties two groups: those that follow from both objects' own intervals tie nothing."""
    tied = b < b[:, :1] + b[:1, :] - 1e-12
    tied[0], tied[:, 0] = False, False
    reachable = tied | tied.T | np.eye(len(b), dtype=bool)
    for _ in range(len(b).bit_length()):
        reachable = reachable @ reachable
    first = reachable.argmax(1)
    return [np.nonzero(first == k)[0] for k in range(1, len(b)) if first[k] == k]


def _sample_part(
    b: Float[np.ndarray, "K K"], part: Int[np.ndarray, " m"], n: int, generator: np.random.Generator, measure: Measure
) -> Float[np.ndarray, "n m"]:
    found: list[np.ndarray] = []
    n_found, size = 0, max(n, _PILOT if len(part) > 1 else 1)
    while n_found < n:
        draws = _draw(b, part, size, generator, measure)
        accepted = generator.random(size) < np.exp(draws.log_weight - draws.log_bound)
        acceptance = accepted.mean()
        if not found and acceptance < _MIN_ACCEPTANCE:
            return _perfect(b, part, n, generator, measure)
        found.append(draws.x[accepted])
        n_found += len(found[-1])
        size = int(np.clip(1.1 * (n - n_found) / max(acceptance, _MIN_ACCEPTANCE), _PILOT, 64 * _PILOT))
    return np.concatenate(found)[:n]


def _draw(
    b: Float[np.ndarray, "K K"], part: Int[np.ndarray, " m"], n: int, generator: np.random.Generator, measure: Measure
) -> _Draws:
    """Draw the part's objects one after another, each uniform in what the earlier ones leave it."""
    width = b + b.T
    # A row per object: everything below runs along rows.
    nodes, x = [0], np.zeros((len(b), n))
    log_weight, log_bound = np.zeros(n), 0.0
    waiting = set(part.tolist())
    while waiting:
        k = min(waiting, key=lambda candidate: (width[nodes, candidate].min(), candidate))
        low, high = x[0] - b[0, k], x[0] + b[k, 0]
        for node in nodes[1:]:
            np.maximum(low, x[node] - b[node, k], out=low)
            np.minimum(high, x[node] + b[k, node], out=high)
        # Rounding may put the ends of an interval without length the wrong way round.
        length = np.maximum(high, low) - low
        u = generator.random(n)
        shortest = width[nodes, k].min()
        with np.errstate(divide="ignore"):
            if measure is Measure.LINEAR:
                # Uniform between the exponentials of the ends.
                grown = np.expm1(length)
                x[k] = low + np.log1p(u * grown)
                log_weight += low + np.log(grown) if shortest > 0 else low
                log_bound += b[k, 0] + (np.log(-np.expm1(-shortest)) if shortest > 0 else 0.0)
            else:
                x[k] = low + u * length
                log_weight += np.log(length) if shortest > 0 else 0.0
                log_bound += np.log(shortest) if shortest > 0 else 0.0
        nodes.append(k)
        waiting.remove(k)
    return _Draws(x[part].T, log_weight, float(log_bound))


def _perfect(
    b: Float[np.ndarray, "K K"], part: Int[np.ndarray, " m"], n: int, generator: np.random.Generator, measure: Measure
) -> Float[np.ndarray, "n m"]:
    """Read-once coupling from the past: the state of a chain just before a block of updates whose trajectories all meet."""
    inner = b[np.ix_(np.concatenate([[0], part]), np.concatenate([[0], part]))]
    sweeps = _sweeps_to_meet(inner, generator, measure)
    if sweeps is None:
        return _resampled(b, part, n, generator, measure)
    result = np.full((n, len(inner)), np.nan)
    # Until its first meeting a chain has no state yet: any stands in.
    state, started, waiting = np.tile(-inner[0], (n, 1)), np.zeros(n, bool), np.arange(n)
    while len(waiting):
        moved, met = _block(inner, state[waiting], sweeps, generator, measure)
        done = waiting[met & started[waiting]]
        result[done] = state[done]
        state[waiting] = moved
        started[waiting] |= met
        waiting = waiting[~np.isin(waiting, done)]
    return result[:, 1:]


def _sweeps_to_meet(inner: Float[np.ndarray, "m m"], generator: np.random.Generator, measure: Measure) -> int | None:
    """A block length at which most trajectories meet, from a pilot run; None when there is none within reason."""
    sweeps = 16
    while sweeps <= _MAX_SWEEPS:
        _, met = _block(inner, np.tile(-inner[0], (64, 1)), sweeps, generator, measure)
        if met.mean() > 0.8:
            return sweeps
        sweeps *= 2
    return None


def _block(
    inner: Float[np.ndarray, "m m"],
    state: Float[np.ndarray, "n m"],
    sweeps: int,
    generator: np.random.Generator,
    measure: Measure,
) -> tuple[Float[np.ndarray, "n m"], Bool[np.ndarray, " n"]]:
    """Run the least, the given and the greatest state through the same random updates: where the given ends, and who met."""
    least, greatest = np.broadcast_to(-inner[0], state.shape), np.broadcast_to(inner[:, 0], state.shape)
    x = np.stack([least, state, greatest]).copy()
    for _ in range(sweeps):
        for k in range(1, len(inner)):
            others = np.arange(len(inner)) != k
            low = (x[..., others] - inner[others, k]).max(-1)
            high = np.maximum((x[..., others] + inner[k, others]).min(-1), low)
            u, v = generator.random((2, len(state)))
            shared = _between(low[0], high[2], u, measure)
            x[..., k] = np.where((low <= shared) & (shared <= high), shared, _between(low, high, v, measure))
    return x[1], np.all(x[0] == x[2], axis=-1)


def _between(
    low: Float[np.ndarray, "*n"], high: Float[np.ndarray, "*n"], u: Float[np.ndarray, "*u"], measure: Measure
) -> Float[np.ndarray, "*n"]:
    """Quantile u of the uniform distribution (of x, or of exp x) on [low, high]."""
    return low + np.log1p(u * np.expm1(high - low)) if measure is Measure.LINEAR else low + u * (high - low)


def _resampled(
    b: Float[np.ndarray, "K K"], part: Int[np.ndarray, " m"], n: int, generator: np.random.Generator, measure: Measure
) -> Float[np.ndarray, "n m"]:
    draws = _draw(b, part, 64 * max(n, _PILOT), generator, measure)
    weight = np.exp(draws.log_weight - draws.log_weight.max())
    return draws.x[generator.choice(len(weight), size=n, replace=False, p=weight / weight.sum())]
