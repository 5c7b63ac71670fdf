"""Camera paths: what stays in the middle, where the camera goes, and bad files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.cameras.paths import orbit, read_path, sway
from pipelines.errors import InputError
from pipelines.geometry import invert, turned_about_pivot


def test_sway_is_a_closed_loop_about_the_filmed_path():
    cams = np.tile(np.eye(4), (9, 1, 1))
    shots = sway(cams, range(9), np.full(9, 2.0), amplitude_deg=5.0, period_frames=8)
    assert [shot.t for shot in shots] == list(range(9))
    assert np.allclose(shots[0].view_from_world, shots[8].view_from_world)
    centres = np.stack([invert(shot.view_from_world)[:3, 3] for shot in shots])
    assert np.allclose(np.linalg.norm(centres - [0, 0, 2.0], axis=1), 2.0)
    assert np.isclose(centres[:, 0].max(), 2 * np.sin(np.radians(5.0)))


def test_orbit_on_one_repeated_frame_stops_time_and_starts_at_the_filmed_view():
    cams = np.tile(np.eye(4), (3, 1, 1))
    shots = orbit(cams, [1] * 4, np.full(4, 2.0), amplitude_deg=20.0)
    assert {shot.t for shot in shots} == {1}
    assert np.allclose(shots[0].view_from_world, np.eye(4))
    assert np.allclose(shots[1].view_from_world, turned_about_pivot(2.0, 20.0, 0.0))


def test_a_path_of_ones_own_is_read_with_its_cameras(tmp_path):
    path = tmp_path / "päth.json"
    view = turned_about_pivot(1.0, 10.0, 0.0)
    intrinsics = [[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]]
    entries = [
        {"t": 2, "view_from_world": view.tolist()},
        {"t": 0, "view_from_world": np.eye(4).tolist(), "intrinsics": intrinsics},
    ]
    path.write_text(json.dumps({"frames": entries}), encoding="utf-8")
    first, second = read_path(path, 3, width=64, height=48)
    assert (first.t, second.t) == (2, 0)
    assert np.allclose(first.view_from_world, view) and first.intrinsics is None
    assert second.intrinsics.tolist() == intrinsics


def test_intrinsics_are_scaled_from_the_size_that_they_are_for(tmp_path):
    """Shared ones are for 640 x 480, the second entry's own for 320 x 240; pictures have 64 x 48 px."""
    path = tmp_path / "path.json"
    own = {"intrinsics": [[200, 0, 160], [0, 200, 120], [0, 0, 1]], "width": 320, "height": 240}
    view = {"t": 0, "view_from_world": np.eye(4).tolist()}
    shared = {"intrinsics": [[500, 0, 320], [0, 500, 200], [0, 0, 1]], "width": 640, "height": 480}
    path.write_text(json.dumps({"frames": [view, view | own], **shared}))
    first, second = read_path(path, 3, width=64, height=48)
    assert np.allclose(first.intrinsics, [[50, 0, 32], [0, 50, 20], [0, 0, 1]])
    assert np.allclose(second.intrinsics, [[40, 0, 32], [0, 40, 24], [0, 0, 1]])


def test_the_example_in_the_documentation_is_a_path(tmp_path):
    page = Path(__file__).resolve().parents[3] / "docs" / "formats.md"
    example = re.search(r"^## Camera paths.*?```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    path = tmp_path / "path.json"
    path.write_text(example[1])
    first, second = read_path(path, 2, width=192, height=144)
    assert (first.t, second.t) == (0, 1)
    assert np.allclose(second.intrinsics, [[200, 0, 96], [0, 200, 72], [0, 0, 1]])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"view_from_world": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 2, 3, 1]]}, "looks transposed.*give rows, as"),
        ({"intrinsics": [[50, 0, 0], [0, 50, 0], [32, 24, 1]]}, r"expected rows as \[\[fx, 0, cx\]"),
        ({"intrinsics": [[0, 0, 32], [0, 50, 24], [0, 0, 1]]}, "with fx, fy > 0"),
        ({"intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 0]]}, "with fx, fy > 0"),
        ({"intrinsics": [[900, 0, 960], [0, 900, 20], [0, 0, 1]]}, r"centre at \(960, 20\), outside.* 64 x 48 px: say with"),
        ({"intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 1]], "width": 64}, "expected width and height in px"),
        ({"intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 1]], "width": 64, "height": "48"}, "expected width and height in px"),
        ({"intrinsics": [[50, 0, 32], [0, 50, 24], [0, 0, 1]], "width": 48, "height": 64}, "another shape than the picture"),
    ],
)
def test_matrices_that_would_show_something_else(tmp_path, more, message):
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"frames": [{"t": 0, "view_from_world": np.eye(4).tolist()} | more]}))
    with pytest.raises(InputError, match=message):
        read_path(path, 3, width=64, height=48)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "is not JSON"),
        ("[]", "has no frames"),
        ('{"frames": []}', "has no frames"),
        ('{"frames": [{"t": 0}]}', "entry 0: expected the keys"),
        ('{"frames": [{"t": 7, "view_from_world": 0}]}', "expected a frame from 0 to 2"),
        ('{"frames": [{"t": 0, "view_from_world": [[1]]}]}', "not a 4 x 4 matrix"),
        ('{"frames": [{"t": 0, "view_from_world": [["a"]]}]}', "not a 4 x 4 matrix"),
        (
            '{"frames": [{"t": 0, "view_from_world": [[2,0,0,0],[0,2,0,0],[0,0,2,0],[0,0,0,1]]}]}',
            "does not start with a rotation",
        ),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "path.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_path(path, 3, width=64, height=48)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="filmed, sway, orbit, freeze"):
        read_path(tmp_path / "spiral", 3, width=64, height=48)
