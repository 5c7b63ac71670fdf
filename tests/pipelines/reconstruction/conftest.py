"""A small object with exact tracks: points on a box that turns in front of a pinhole camera."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Tracks
from pipelines.geometry import rigid, transform
from pipelines.reconstruction.bundle import Structure
from pipelines.reconstruction.sightings import Sightings

FOCAL_PX = 400.0


@dataclass(frozen=True)
class Toy:
    """True structure and its noisy sightings."""

    truth: Structure
    sightings: Sightings

    def tracks(self, object_id: int, principal_px: np.ndarray) -> Tracks:
        track, frame = np.nonzero(self.sightings.seen.T)
        xy_px = self.sightings.xy_px[frame, track] + principal_px
        return Tracks(track, frame, xy_px, np.full(self.sightings.n_tracks, object_id, np.uint8))


def make_toy(
    *, turn_deg: float = 60, size: float = 0.5, noise_px: float = 0.05, n_frames: int = 14, n_points: int = 80, seed: int = 0
) -> Toy:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-size, size, (n_points, 3))
    face = rng.integers(0, 3, n_points)
    points[np.arange(n_points), face] = np.sign(points[np.arange(n_points), face]) * size
    angle = np.radians(np.linspace(-turn_deg / 2, turn_deg / 2, n_frames))
    turn = Rotation.from_rotvec(angle[:, None] * np.array([0.2, 0.95, 0.1])).as_matrix()
    path = np.stack([np.linspace(-0.5, 0.5, n_frames), 0.1 * np.sin(angle), 4 + 0.2 * np.cos(2 * angle)], -1)
    poses = rigid(turn, path)
    cam = transform(poses, np.broadcast_to(points, (n_frames, n_points, 3)))
    xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:] + rng.normal(size=(n_frames, n_points, 2)) * noise_px
    # Tracks come and go: each misses a run of frames at one end.
    for p in range(n_points):
        gone = rng.integers(0, max(n_frames // 3, 1))
        xy_px[:gone, p] = np.nan if p % 2 else xy_px[:gone, p]
        xy_px[n_frames - gone :, p] = xy_px[n_frames - gone :, p] if p % 2 else np.nan
    return Toy(Structure(poses, points, FOCAL_PX), Sightings(xy_px))


@pytest.fixture
def toy() -> Toy:
    return make_toy()
