"""A lens that zooms is told from a camera that travels."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Labels, ObjectModel, SfmStatus, Tracks, Video
from pipelines.reconstruction.bundle import cauchy
from pipelines.reconstruction.complete import Views
from pipelines.reconstruction.sightings import Sightings
from pipelines.reconstruction.solve import solve_object
from pipelines.reconstruction.zoom import turn_and_zoom
from pipelines.sfm import SfmConfig

FOCAL_PX, N_FRAMES, N_TRACKS = 400.0, 10, 70


def filmed(*, zoom: float = 1.0, turn_deg: float = 0.0, forward: float = 0.0, depth: tuple[float, float] = (3, 9)) -> Sightings:
    """Tracks with 0.05 px of noise of a camera that zooms, pans and travels; some are seen only early or late."""
    rng = np.random.default_rng(0)
    base = rng.uniform([-240, -180], [240, 180], (N_TRACKS, 2))
    d = np.concatenate([base / FOCAL_PX, np.ones((N_TRACKS, 1))], 1) * rng.uniform(*depth, (N_TRACKS, 1))
    xy_px = np.zeros((N_FRAMES, N_TRACKS, 2))
    for t, s in enumerate(np.linspace(0, 1, N_FRAMES)):
        turn = Rotation.from_rotvec([0, np.radians(turn_deg) * s, 0]).as_matrix()
        q = (d - [0.2 * forward * s, 0, forward * s]) @ turn.T
        xy_px[t] = FOCAL_PX * zoom**s * q[:, :2] / q[:, 2:]
    xy_px += rng.normal(0, 0.05, xy_px.shape)
    xy_px[:4, ::5] = np.nan
    xy_px[6:, 1::5] = np.nan
    return Sightings(xy_px)


@pytest.mark.parametrize(("zoom", "turn_deg"), [(1.5, 0.0), (1.3, 9.0), (1.0, 9.0)])
def test_zoom_and_turn_are_found_whatever_the_focal_length_was_taken_for(zoom, turn_deg):
    found = turn_and_zoom(filmed(zoom=zoom, turn_deg=turn_deg), 1.2 * FOCAL_PX, 0.3)
    assert found.zoom == pytest.approx(zoom, rel=0.003)
    assert np.median(np.linalg.norm(found.residual_px, axis=-1)) < 0.07


def test_travel_is_no_zoom():
    found = turn_and_zoom(filmed(forward=0.8), FOCAL_PX, 0.3)
    assert cauchy(found.residual_px, 0.3)[0].mean() > 0.05


def solved(sightings: Sightings, folder) -> ObjectModel:
    principal_px = np.array([320.0, 240.0])
    track, frame = np.nonzero(sightings.seen.T)
    tracks = Tracks(track, frame, sightings.xy_px[frame, track] + principal_px, np.zeros(N_TRACKS, np.uint8))
    labels = Labels(np.zeros((N_FRAMES, 480, 640), np.uint8), ("background",))
    views = Views(Video(folder, 640, 480, N_FRAMES, 24.0, "zoom"), labels, 0, principal_px)
    return solve_object(SfmConfig(), 0, FOCAL_PX, tracks, views)


def test_a_background_that_is_zoomed_is_doubtful(tmp_path):
    model = solved(filmed(zoom=1.4), tmp_path)
    assert model.status is SfmStatus.DOUBTFUL
    assert model.reason.startswith("the picture grows by 1.4 as when a lens zooms")


def test_a_background_that_is_approached_is_not(tmp_path):
    model = solved(filmed(forward=0.8), tmp_path)
    assert model.status is SfmStatus.OK, model.reason
