"""A viewer of the toy scene."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.meshing.mesh import Mesh


@pytest.fixture(scope="session")
def sphere_meshes() -> list[Mesh]:
    """A mesh per column: nothing for the room, coloured balls for the movers."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    mesh = Mesh.build(np.asarray(ball.vertices), np.asarray(ball.faces))
    red, blue = (np.tile(np.array(rgb, np.uint8), (len(mesh.vertices), 1)) for rgb in ((220, 60, 40), (40, 80, 220)))
    return [Mesh.empty(), mesh.coloured(red), mesh.coloured(blue)]


@pytest.fixture
def viewer(toy_scene, toy_video, toy_samples, toy_zone, toy_ranges, tmp_path) -> Iterator:
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
        zone=toy_zone,
        network=network,
        log_scale_range=toy_ranges,
        own_samples=tmp_path / "own_samples.csv",
    )
    shown = Viewer(contents, host="127.0.0.1", port=8190)
    yield shown
    shown.stop()
