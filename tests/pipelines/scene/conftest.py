"""Makers of small evidence for the tests of what is made of it."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipelines.scene.evidence import OcclusionEvidence
from pipelines.scene.orders import OrderTests


def make_evidence(
    depth: Sequence[Sequence[float]], column: Sequence[int], opacity: np.ndarray | None = None
) -> OcclusionEvidence:
    """Rays with the given depths (inf = not hit), all observed; ray r is in frame r at pixel (r + 0.5, 2.5)."""
    depths = np.array(depth, np.float32)
    n = len(depths)
    return OcclusionEvidence(
        depth=depths,
        opacity=np.isfinite(depths).astype(np.float32) if opacity is None else opacity.astype(np.float32),
        column=np.array(column, np.uint8),
        frame=np.arange(n),
        xy_px=np.stack([np.arange(n) + 0.5, np.full(n, 2.5)], axis=1),
        observed=np.isfinite(depths),
        credible=np.isfinite(depths),
    )


def make_tests(rows: Sequence[tuple[int, int, int, float]], n_columns: int, n_rays: int | None = None) -> OrderTests:
    """Tests (ray, front, back, bound); ray r is in frame r at pixel (r + 0.5, 2.5)."""
    ray, front, back, bound = (np.array(part) for part in zip(*rows, strict=True)) if rows else np.zeros((4, 0))
    n = n_rays if n_rays is not None else int(ray.max(initial=-1)) + 1
    return OrderTests(
        ray=ray.astype(int),
        front=front.astype(np.uint8),
        back=back.astype(np.uint8),
        bound=bound.astype(float),
        guessed=np.zeros(len(bound), bool),
        ray_frame=np.arange(n),
        ray_xy_px=np.stack([np.arange(n) + 0.5, np.full(n, 2.5)], axis=1),
        n_columns=n_columns,
        n_hopeless=0,
    )


def make_random_tests(generator: np.random.Generator, n_columns: int, n_rays: int, per_ray: int = 3) -> OrderTests:
    """Tests true of x = 0 (all bounds positive), up to per_ray on a ray."""
    rows = []
    for ray in range(n_rays):
        columns = generator.permutation(n_columns)[: 2 + generator.integers(min(per_ray, n_columns - 1))]
        rows += [(ray, int(columns[0]), int(back), float(generator.exponential(0.3))) for back in sorted(columns[1:])]
    return make_tests(rows, n_columns)


@pytest.fixture
def evidence_of() -> Callable[..., OcclusionEvidence]:
    return make_evidence


@pytest.fixture
def tests_of() -> Callable[..., OrderTests]:
    return make_tests


@pytest.fixture
def random_tests() -> Callable[..., OrderTests]:
    return make_random_tests
