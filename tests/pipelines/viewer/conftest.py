"""A viewer of the toy scene with scales bounded by hand."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.meshing.mesh import Mesh
from pipelines.scene.zone import Zone


@pytest.fixture(scope="session")
def wedge() -> Zone:
    """-0.6 <= x1 <= 0.3, -0.5 <= x2 <= 0.5, x1 - x2 <= 0.1."""
    bounds = np.array([[0.0, 0.6, 0.5], [0.3, 0.0, 0.1], [0.5, np.inf, 0.0]])
    frame, xy_px = np.full((3, 3), -1), np.full((3, 3, 2), np.nan)
    frame[1, 0], frame[1, 2] = 2, 5
    xy_px[1, 0], xy_px[1, 2] = (40.5, 50.5), (90.5, 60.5)
    assumed = np.isfinite(bounds) & ~np.eye(3, dtype=bool) & (frame < 0)
    return Zone(bounds, frame, xy_px, assumed, np.zeros_like(assumed), 0.005)


@pytest.fixture(scope="session")
def wedge_ranges() -> np.ndarray:
    return np.array([[0.0, 0.0], [-0.6, 0.6], [-0.5, 0.5]])


@pytest.fixture(scope="session")
def sphere_meshes() -> list[Mesh]:
    """A mesh per column: nothing for the room, coloured balls for the movers."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    mesh = Mesh.build(np.asarray(ball.vertices), np.asarray(ball.faces))
    red, blue = (np.tile(np.array(rgb, np.uint8), (len(mesh.vertices), 1)) for rgb in ((220, 60, 40), (40, 80, 220)))
    return [Mesh.empty(), mesh.coloured(red), mesh.coloured(blue)]


@pytest.fixture
def viewer(toy_scene, toy_video, toy_samples, wedge, wedge_ranges, tmp_path) -> Iterator:
    pytest.importorskip("viser", reason="the viewer is an extra: pip install osn-cli[view]")
    from pipelines.viewer.app import Contents, Viewer

    random = np.random.default_rng(0)
    points = [(random.normal(size=(n, 3)), random.integers(0, 255, (n, 3), dtype=np.uint8)) for n in (200, 50, 80)]
    network = SimpleNamespace(score=lambda log_scale: np.full(len(log_scale), 0.75))
    contents = Contents(
        scene=toy_scene,
        samples=toy_samples,
        video=toy_video,
        points=points,
        zone=wedge,
        network=network,
        log_scale_range=wedge_ranges,
        own_samples=tmp_path / "own_samples.csv",
    )
    shown = Viewer(contents, host="127.0.0.1", port=8190)
    yield shown
    shown.stop()
