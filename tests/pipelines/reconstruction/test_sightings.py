"""Triangulation, resection and the choice of tracks against hand-made truth."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.geometry import rotation_angle_deg
from pipelines.reconstruction.bundle import exp_rotation
from pipelines.reconstruction.sightings import Sightings, pose_uncertainty_deg, refine_pose, spread_tracks, triangulate

from .conftest import FOCAL_PX, make_toy


def test_from_tracks_and_back(toy):
    principal = np.array([160.0, 120.0])
    tracks = toy.tracks(3, principal)
    again = Sightings.from_tracks(tracks, toy.sightings.n_frames, principal)
    np.testing.assert_allclose(again.xy_px, toy.sightings.xy_px)


def test_what_is_seen_is_found_once_and_stays(toy):
    seen = toy.sightings.seen
    assert toy.sightings.seen is seen
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = False


def test_triangulates_exact_rays():
    toy = make_toy(noise_px=0.0)
    observed = toy.sightings.observations(np.ones(14, bool), np.ones(80, bool))
    points, spread = triangulate(observed, toy.truth, 81)
    np.testing.assert_allclose(points[:80], toy.truth.points, atol=1e-9)
    assert spread[80] == 0
    assert np.all(spread[:80] > 0.02)


def test_two_rays_spread_by_half_their_angle():
    toy = make_toy(n_frames=2, n_points=5, turn_deg=6, noise_px=0.0)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = -0.1
    structure = replace(toy.truth, cam_from_obj=poses, points=np.array([[0.0, 0.0, 1.0]]))
    table = np.array([[[0.0, 0.0]], [[-0.1 * FOCAL_PX, 0.0]]])
    observed = Sightings(table).observations(np.ones(2, bool), np.ones(1, bool))
    points, spread = triangulate(observed, structure, 1)
    np.testing.assert_allclose(points, [[0, 0, 1]], atol=1e-9)
    assert spread[0] == pytest.approx(np.sin(np.arctan(0.1) / 2), rel=1e-6)


def test_refines_a_pose_despite_outliers(toy):
    points = toy.truth.points
    chosen = toy.sightings.seen[5]
    xy_px = toy.sightings.xy_px[5, chosen].copy()
    xy_px[:6] += 40
    start = toy.truth.cam_from_obj[5].copy()
    start[:3, :3] = exp_rotation(np.array([0.05, -0.05, 0.02])) @ start[:3, :3]
    pose, error = refine_pose(start, points[chosen], xy_px, FOCAL_PX, 1.0)
    assert rotation_angle_deg(pose[:3, :3] @ toy.truth.cam_from_obj[5, :3, :3].T) < 0.3
    assert np.all(error[:6] > 20)
    assert np.median(error[6:]) < 0.2


def test_pose_uncertainty_is_the_scatter_of_refined_poses():
    rng = np.random.default_rng(0)
    toy = make_toy(noise_px=0.0)
    seen = toy.sightings.seen[7]
    points, xy_px, true = toy.truth.points[seen], toy.sightings.xy_px[7, seen], toy.truth.cam_from_obj[7]
    scatter = []
    for _ in range(60):
        pose, _ = refine_pose(true, points, xy_px + rng.normal(size=xy_px.shape) * 0.5, FOCAL_PX, 100.0)
        scatter.append(rotation_angle_deg(pose[:3, :3] @ true[:3, :3].T) ** 2)
    assert pose_uncertainty_deg(true, points, FOCAL_PX, 0.5) == pytest.approx(np.sqrt(np.mean(scatter)), rel=0.25)


def test_chosen_tracks_are_few_and_cover_every_frame():
    rng = np.random.default_rng(0)
    table = np.full((20, 300, 2), np.nan)
    for p in range(300):
        start = rng.integers(0, 16) if p < 280 else 16
        table[start : start + 4, p] = 0.0
    chosen = spread_tracks(Sightings(table), 60, seed=0)
    assert len(chosen) == 60
    counts = np.isfinite(table[:, chosen, 0]).sum(1)
    assert counts.min() >= 3
    np.testing.assert_array_equal(chosen, spread_tracks(Sightings(table), 60, seed=0))


def test_few_tracks_still_tie_both_sides_of_a_waist_together():
    """An object that passes behind a pillar: most of its long tracks are seen after it, and few both before and after."""
    n_frames, rng = 28, np.random.default_rng(0)
    spans = [(0, 8)] * 400 + [(9, 28)] * 500 + [(5, 14)] * 40
    table = np.full((n_frames, len(spans), 2), np.nan)
    for p, (first, end) in enumerate(spans):
        table[first:end, p] = rng.normal(size=(end - first, 2))
    chosen = spread_tracks(Sightings(table), 300, seed=0)
    assert len(chosen) == 300
    assert (chosen >= 900).sum() == 40
    assert np.isfinite(table[:, chosen, 0]).sum(1).min() >= 40
    assert np.isfinite(table[4, chosen, 0]).sum() >= 60


def test_where_everything_is_seen_everywhere_the_longest_tracks_are_taken():
    table = np.zeros((20, 100, 2))
    table[15:, :60] = np.nan
    chosen = spread_tracks(Sightings(table), 40, seed=0)
    np.testing.assert_array_equal(chosen, np.arange(60, 100))
