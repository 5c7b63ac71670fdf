"""Flat movers: their tracks fill two dimensions only, so factorisation alone may end degrees away from the truth."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Tracks
from pipelines.geometry import align_rotations, focal_from_fov, rotation_angle_deg
from pipelines.reconstruction.attempts import attempt_all, choose
from pipelines.reconstruction.calibrate import ASSUMED_UNCERTAINTY, START_FOVS_DEG, Focal, focal_of_movers, self_calibrate
from pipelines.reconstruction.flat import flat_starts
from pipelines.reconstruction.grow import GrowOptions
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.solve import grow_options
from pipelines.reconstruction.window import candidate_windows
from pipelines.sfm import SfmConfig

WIDTH, HEIGHT, FOCAL_PX, N_FRAMES = 160, 120, 150.0, 14
OPTIONS: GrowOptions = grow_options(SfmConfig())
TURNS = Rotation.from_rotvec(0.05 * np.arange(N_FRAMES)[:, None] * [0, 1, 0.3]).as_matrix()


def card(relief: float, noise_px: float, seed: int) -> Tracks:
    """Of side 1, three away, turning by 40 degrees before a camera that stands still; relief: depth of its points."""
    random = np.random.default_rng(seed)
    points = random.uniform(-0.5, 0.5, (100, 3))
    points[:, 2] *= relief
    path = np.stack([-0.3 + 0.05 * np.arange(N_FRAMES), np.full(N_FRAMES, 0.2), np.full(N_FRAMES, 3.0)], 1)
    seen = np.einsum("tij,pj->tpi", TURNS, points) + path[:, None]
    xy_px = FOCAL_PX * seen[..., :2] / seen[..., 2:] + [WIDTH / 2, HEIGHT / 2]
    xy_px += random.normal(0, noise_px, xy_px.shape)
    track, frame = np.repeat(np.arange(100), N_FRAMES), np.tile(np.arange(N_FRAMES), 100)
    return Tracks(track, frame, xy_px[frame, track].astype(np.float32), np.ones(100, np.uint8))


def turning(relief: float, noise_px: float, seed: int) -> Sightings:
    return Sightings.from_tracks(card(relief, noise_px, seed), N_FRAMES, np.array([WIDTH, HEIGHT]) / 2)


@pytest.mark.parametrize(("noise_px", "seed"), [(0.05, 0), (0.05, 1), (0.15, 1)])
def test_a_flat_mover_finds_its_motion(noise_px: float, seed: int) -> None:
    """Two of these three were 7 degrees off, whatever the window, before a plane was among the starts."""
    choice = choose(attempt_all(turning(0.0, noise_px, seed), FOCAL_PX, OPTIONS, 4))
    assert choice is not None
    found = choice.best.grown.structure.cam_from_obj[:, :3, :3]
    aligned = found @ align_rotations(found, TURNS)
    assert np.median(rotation_angle_deg(np.swapaxes(aligned, 1, 2) @ TURNS)) < 0.5


STARTS_PX = [focal_from_fov(fov_deg, WIDTH) for fov_deg in START_FOVS_DEG]


@pytest.mark.parametrize(("noise_px", "seed"), [(0.05, 1), (0.15, 1), (0.15, 2)])
def test_a_plane_looks_the_same_through_several_lenses(noise_px: float, seed: int) -> None:
    """In the last case three of the starts agree on half of the true focal length, and call that certain to a tenth."""
    found = self_calibrate(SfmConfig(attempt_tracks=100), turning(0.0, noise_px, seed), STARTS_PX)
    assert found is not None
    assert found[1] > 0.4


@pytest.mark.parametrize("relief", [0.1, 0.6])
def test_a_mover_with_depth_tells_the_focal_length(relief: float) -> None:
    """Also a card that is hardly more than a plane."""
    focal_px, uncertainty = self_calibrate(SfmConfig(attempt_tracks=100), turning(relief, 0.05, 1), STARTS_PX) or (0.0, 0.0)
    assert focal_px == pytest.approx(FOCAL_PX, rel=0.02)
    assert uncertainty < 0.1


def test_a_flat_mover_leaves_the_focal_length_as_it_was_assumed() -> None:
    assumed = Focal(138.6, "assumed", ASSUMED_UNCERTAINTY, "")
    centre = np.array([WIDTH, HEIGHT]) / 2
    flat, solid = (
        focal_of_movers(SfmConfig(attempt_tracks=100), [card(relief, 0.05, 1)], assumed, WIDTH, N_FRAMES, centre)
        for relief in (0.0, 0.6)
    )
    assert flat.source == "assumed" and flat.uncertainty > 0.95 * ASSUMED_UNCERTAINTY
    assert flat.focal_px == pytest.approx(138.6, rel=0.02)
    assert solid.uncertainty < 0.6 * ASSUMED_UNCERTAINTY
    assert solid.focal_px == pytest.approx(FOCAL_PX, rel=0.05)


def test_what_has_depth_needs_no_plane() -> None:
    flat, deep = (turning(relief, 0.05, 0) for relief in (0.0, 0.6))
    counts = []
    for sightings in (flat, deep):
        (window, *_) = candidate_windows(sightings, FOCAL_PX, count=1)
        counts.append(len(flat_starts(sightings, window, FOCAL_PX, OPTIONS.loss_px)))
    assert counts == [4, 0]
