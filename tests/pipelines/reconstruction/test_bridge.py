"""Motion that goes on behind a gap in which nothing was seen, on tracks that have nothing in common with those before it."""

import numpy as np
import pytest

from pipelines.geometry import rotation_angle_deg
from pipelines.reconstruction.bridge import _bridge_towards
from pipelines.reconstruction.grow import FINAL, Grown, GrowOptions, finish
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.smooth import smoothed

from .conftest import Toy, make_toy

OPTIONS = GrowOptions(loss_px=0.3, max_error_px=2.0, min_frame_points=8)
N_FRAMES, GAP = 24, 12


def with_gap(size: float, seed: int) -> tuple[Toy, Sightings]:
    """Half of the tracks are seen before frame 12, the others after it."""
    toy = make_toy(turn_deg=60, size=size, noise_px=0.05, n_frames=N_FRAMES, n_points=120, seed=seed)
    # Every track is seen throughout its half: coming and going isn't the matter here.
    cam = np.einsum("tij,pj->tpi", toy.truth.cam_from_obj[:, :3, :3], toy.truth.points) + toy.truth.cam_from_obj[:, None, :3, 3]
    xy_px = toy.truth.focal_px * cam[..., :2] / cam[..., 2:]
    xy_px += np.random.default_rng(seed).normal(size=xy_px.shape) * 0.05
    early = np.arange(120) < 60
    xy_px[GAP:, early] = np.nan
    xy_px[: GAP + 1, ~early] = np.nan
    return toy, Sightings(xy_px)


def one_side(toy: Toy, sightings: Sightings, frames: np.ndarray) -> Grown:
    grown = finish(sightings, toy.truth, frames, OPTIONS, FINAL)
    assert grown is not None
    return grown


@pytest.mark.parametrize(("direction", "size"), [(1, 0.5), (-1, 0.5), (1, 0.25), (-1, 0.25)])
def test_the_motion_goes_on_behind_a_gap(direction, size):
    toy, sightings = with_gap(size, seed=2)
    before = np.arange(N_FRAMES) < GAP
    here = before if direction > 0 else np.arange(N_FRAMES) > GAP
    grown, prior = smoothed(sightings, one_side(toy, sightings, here), np.tile(np.eye(3), (N_FRAMES, 1, 1)), OPTIONS, FINAL)
    longer = _bridge_towards(sightings, grown, OPTIONS, direction, prior)
    assert longer is not None
    assert longer.registered.sum() == N_FRAMES - 1
    rotation, true = longer.structure.cam_from_obj[:, :3, :3], toy.truth.cam_from_obj[:, :3, :3]
    anchor = int(np.flatnonzero(here)[len(np.flatnonzero(here)) // 2])
    aligned = rotation @ (rotation[anchor].T @ true[anchor])
    error_deg = rotation_angle_deg(np.swapaxes(aligned, 1, 2) @ true)
    # The mirror twin would be off by twice the turn since the gap: 30 deg and more.
    assert error_deg[longer.registered & ~here].max() < 5


def test_a_long_gap_is_not_bridged():
    toy, sightings = with_gap(0.5, seed=2)
    table = sightings.xy_px.copy()
    table[GAP : GAP + 5] = np.nan
    table[GAP - 2 : GAP] = np.nan
    sightings = Sightings(table)
    grown = one_side(toy, sightings, np.arange(N_FRAMES) < GAP - 2)
    assert _bridge_towards(sightings, grown, OPTIONS, 1, None) is None
