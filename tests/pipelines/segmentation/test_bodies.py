import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.segmentation.bodies import verified
from pipelines.segmentation.grid_tracks import PointTracks

WIDTH, HEIGHT, FOCAL, N_FRAMES = 400.0, 300.0, 350.0, 28


def film(bodies: list[np.ndarray], motions: list[tuple[float, float]], *, travel: float) -> PointTracks:
    """Tracks of bodies (points in the first camera's frame) that turn and drift per frame, seen by a camera that travels."""
    rng = np.random.default_rng(0)
    xy_px = []
    for points, (turn, drift) in zip(bodies, motions, strict=True):
        centre, seen = points.mean(0), []
        for t in range(N_FRAMES):
            moved = Rotation.from_rotvec([0, turn * t, 0]).apply(points - centre) + centre + [0, drift * t, 0]
            turned = Rotation.from_rotvec([0, 0.01 * t, 0]).apply(moved) + np.array([travel, 0, -travel / 2]) * t
            seen.append(FOCAL * turned[:, :2] / turned[:, 2:] + [WIDTH / 2, HEIGHT / 2])
        xy_px.append(np.stack(seen, 1))
    joined = np.concatenate(xy_px) + rng.normal(0, 0.05, (sum(map(len, bodies)), N_FRAMES, 2))
    return PointTracks(joined, np.ones(joined.shape[:2], bool))


def block(n: int, centre: tuple[float, float, float], half: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-half, half, (n, 3)) + centre


def counted(tracks: PointTracks, label: np.ndarray) -> np.ndarray:
    return verified(tracks, label, width=WIDTH, height=HEIGHT, rng=np.random.default_rng(0))


ROOM = block(300, (0, 0, 6), 2.0, seed=1)
PILLAR = block(40, (0.4, 0, 2.2), 0.2, seed=2)


@pytest.mark.parametrize(("motion", "groups"), [((0.0, 0.0), 0), ((0.03, 0.01), 1)])
def test_a_near_pillar_is_background_and_a_mover_is_not(motion: tuple[float, float], groups: int) -> None:
    tracks = film([ROOM, PILLAR], [(0, 0), motion], travel=0.03)
    assert counted(tracks, np.repeat([0, 1], [300, 40])).max() == groups


def test_under_a_camera_that_only_turns_nothing_is_taken_for_a_thing_at_rest() -> None:
    tracks = film([ROOM, PILLAR], [(0, 0), (0, 0)], travel=0.0)
    assert counted(tracks, np.repeat([0, 1], [300, 40])).max() == 1


def test_two_bodies_in_one_group_are_told_apart_and_one_body_is_not() -> None:
    bodies = [ROOM, block(60, (-0.5, 0, 4), 0.3, seed=3), block(60, (0.3, 0, 4), 0.3, seed=4)]
    apart = counted(film(bodies, [(0, 0), (0.03, 0.01), (-0.02, -0.01)], travel=0.02), np.repeat([0, 1], [300, 120]))
    assert apart.max() == 2
    assert len(set(apart[300:360])) == len(set(apart[360:])) == 1
    alike = film([ROOM, np.concatenate(bodies[1:])], [(0, 0), (0.03, 0.01)], travel=0.02)
    assert counted(alike, np.repeat([0, 1], [300, 120])).max() == 1
