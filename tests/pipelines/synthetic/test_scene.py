"""The truth of a synthetic scene must agree with itself in every way that evaluation relies on."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from pipelines import geometry
from pipelines.errors import InputError, UsageError
from pipelines.ground_truth import GroundTruth
from pipelines.synthetic import SceneSpec, SyntheticScene, Variant, load_world, make_scene, motion
from pipelines.synthetic.scene import SPEC_FILE, write_video

SMALL = SceneSpec(seed=1, n_movers=3, n_frames=6, width=128, height=96, candidates=1)


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return make_scene(SMALL)


def test_the_same_seed_makes_the_same_scene(scene):
    again = make_scene(SMALL)
    np.testing.assert_array_equal(again.images_train, scene.images_train)
    np.testing.assert_array_equal(again.depth_alone, scene.depth_alone)


def test_a_written_scene_is_made_again(scene, tmp_path):
    scene.write(tmp_path)
    world = load_world(tmp_path)
    np.testing.assert_array_equal(world.world_from_object, scene.world_from_object)
    np.testing.assert_array_equal(world.cam_from_world_test, scene.cam_from_world_test)
    alone = world.actors(3).depth_alone(world.camera(world.cam_from_world_train[3]))
    np.testing.assert_array_equal(np.where(np.isfinite(alone), alone, 0).astype(np.float32), scene.depth_alone[3])
    # Another seed's scene is not this one, whatever scene.json says.
    (tmp_path / SPEC_FILE).write_text((tmp_path / SPEC_FILE).read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(InputError, match="another version"):
        load_world(tmp_path)
    (tmp_path / SPEC_FILE).write_text('{"seed": 1, "surroundings": null, "variant": "upside-down"}')
    with pytest.raises(InputError, match="does not describe a synthetic scene"):
        load_world(tmp_path)


def test_what_is_seen_is_the_nearest(scene):
    alone = np.where(scene.depth_alone > 0, scene.depth_alone, np.inf)
    np.testing.assert_array_equal(alone.argmin(1), scene.segm_train)
    np.testing.assert_array_equal(np.where(np.isfinite(alone.min(1)), alone.min(1), 0), scene.depth_train)


def test_depth_is_where_the_surface_is(scene):
    """Points from depth maps lie on the true surface of the object that the label names."""
    xy_px = geometry.pixel_centres(SMALL.width, SMALL.height)
    for t in (0, 5):
        points = scene.depth_train[t][..., None] * geometry.ray_directions(scene.intrinsics, xy_px)
        for k, body in enumerate(scene.cast.bodies):
            cam_from_obj = scene.cam_from_world_train[t] @ scene.world_from_object[t, k]
            on_object = geometry.transform(geometry.invert(cam_from_obj), points[scene.segm_train[t] == k])
            assert np.abs(body.distance(on_object)).max() < 0.02  # chords of the tessellation


def test_movers_keep_clear_of_each_other_and_of_the_room(scene):
    still = scene.world_from_object[:, 0]
    bodies = scene.cast.bodies
    for a in range(len(bodies)):
        for b in range(a):
            first, second = scene.world_from_object[:, a], scene.world_from_object[:, b]
            assert motion.smallest_gap(bodies[a], first, bodies[b], second, motion.CLEARANCE) >= motion.CLEARANCE
    np.testing.assert_array_equal(still, np.tile(np.eye(4), (6, 1, 1)))


def test_movers_turn_enough_to_be_reconstructed(scene):
    for k in (1, 2, 3):
        assert motion.relative_turn_deg(scene.cam_from_world_train, scene.world_from_object[:, k]) >= motion.MIN_TURN_DEG


def test_flow_leads_to_the_same_surface_point(scene):
    """Where the point is seen in both frames, label and depth at its target are those of the moved point."""
    flow_px, seen = scene.flow(2, 3)
    target_px = geometry.pixel_centres(SMALL.width, SMALL.height) + flow_px
    column, row = np.floor(target_px[seen]).astype(int).T
    inside = (column < SMALL.width) & (row < SMALL.height)
    same = scene.segm_train[3][row[inside], column[inside]] == scene.segm_train[2][seen][inside]
    assert same.mean() > 0.97  # pixels on outlines may round to the neighbour
    assert 0.7 < seen.mean() < 1


def test_flow_to_the_same_frame_is_zero(scene):
    flow_px, seen = scene.flow(1, 1)
    np.testing.assert_allclose(flow_px, 0, atol=1e-3)
    assert seen.mean() > 0.99


def test_what_is_written_is_read_back(scene, tmp_path):
    scene.write(tmp_path, flow=True)
    truth = GroundTruth.load(tmp_path)
    np.testing.assert_array_equal(truth.image_train(3), scene.images_train[3])
    np.testing.assert_array_equal(truth.image_test(3), scene.images_test[3])
    np.testing.assert_array_equal(truth.segm_test, scene.segm_test)
    np.testing.assert_allclose(truth.depth_alone, scene.depth_alone, rtol=1e-3)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"video.mp4", "masks/000005.png", "flow/000000_000001.npz", "meshes/00_background.ply"} <= names


def test_the_video_shows_the_frames(scene, tmp_path):
    import cv2

    scene.write(tmp_path)
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    frames = np.stack([video.read()[1][..., ::-1] for _ in range(6)])
    # Compressed at high quality; only colour is stored at half resolution, so brightness is compared.
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(frames @ luma - scene.images_train @ luma).mean() < 3


def test_the_video_of_a_seed_is_the_same_to_the_bit(scene, tmp_path):
    """The tracks, and so all figures of the benchmarks, rest on how the film is compressed."""
    from imageio_ffmpeg import get_ffmpeg_exe

    write_video(tmp_path / "video.mp4", scene.images_train[:, :95, :127], 12.0)
    even = np.pad(scene.images_train[:, :95, :127], ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "12", "-i", "-", "-an", "-v", "error"]
    encoding = ["-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "10", "-preset", "medium"]
    subprocess.run([get_ffmpeg_exe(), *raw, *encoding, tmp_path / "by_hand.mp4"], input=even.tobytes(), check=True)
    assert (tmp_path / "video.mp4").read_bytes() == (tmp_path / "by_hand.mp4").read_bytes()


def variant(kind: Variant, **changes: object) -> SyntheticScene:
    return make_scene(replace(SMALL, variant=kind, **changes))


def test_a_static_camera_stands_still():
    cam_from_world = variant(Variant.STATIC_CAMERA).cam_from_world_train
    np.testing.assert_allclose(cam_from_world, np.tile(cam_from_world[0], (6, 1, 1)))


def test_a_rotating_camera_turns_on_the_spot():
    cam_from_world = variant(Variant.ROTATION_ONLY).cam_from_world_train
    world_from_cam = geometry.invert(cam_from_world)
    np.testing.assert_allclose(world_from_cam[:, :3, 3], np.tile(world_from_cam[0, :3, 3], (6, 1)), atol=1e-12)
    assert geometry.rotation_angle_deg(world_from_cam[0, :3, :3].T @ world_from_cam[-1, :3, :3]) > 5


@pytest.mark.parametrize(("kind", "n_objects"), [(Variant.NO_MOVER, 1), (Variant.ONE_OBJECT, 2), (Variant.MANY, 9)])
def test_variants_have_their_number_of_movers(kind, n_objects):
    made = variant(kind, n_frames=2, width=96, height=72, candidates=1)
    assert made.depth_alone.shape[1] == len(made.names) == n_objects
    assert set(np.unique(made.segm_train)) <= set(range(n_objects))


def test_one_leaves_and_returns():
    areas = (variant(Variant.LEAVE_AND_RETURN, n_frames=7).segm_train == 1).sum((1, 2))
    assert areas[0] > 20 and areas[-1] > 20 and areas[3] == 0


def test_two_move_as_one():
    moved = variant(Variant.MOVE_AS_ONE).world_from_object
    first_from_second = geometry.invert(moved[:, 1]) @ moved[:, 2]
    np.testing.assert_allclose(first_from_second, np.tile(first_from_second[0], (6, 1, 1)), atol=1e-12)


def test_a_tiny_object_is_tiny():
    made = variant(Variant.TINY_OBJECT)
    widest = (made.depth_alone[:, 1] > 0).any(1).sum(1).max()
    assert 1 <= widest <= 8


def test_a_textureless_object_has_one_hue():
    made = variant(Variant.TEXTURELESS_OBJECT)
    inner = made.images_train[0][made.segm_train[0] == 1].astype(float)
    ratio = inner[:, 0] / inner[:, 2]
    textured = made.images_train[0][made.segm_train[0] == 2].astype(float)
    assert ratio.std() < 0.3 * (textured[:, 0] / textured[:, 2]).std() + 0.05


def test_motion_blur_smooths_what_moves_but_not_the_truth():
    still = replace(SMALL, n_frames=3, width=96, height=72, candidates=1)
    sharp, blurred = make_scene(still), make_scene(replace(still, variant=Variant.MOTION_BLUR))
    np.testing.assert_array_equal(sharp.depth_train, blurred.depth_train)

    def contrast(images: np.ndarray) -> float:
        return float(np.abs(np.diff(images.astype(float), axis=2)).mean())

    assert contrast(blurred.images_train) < 0.85 * contrast(sharp.images_train)


def test_a_cut_jumps():
    world_from_cam = geometry.invert(variant(Variant.CUT).cam_from_world_train)
    steps = np.linalg.norm(np.diff(world_from_cam[:, :3, 3], axis=0), axis=1)
    assert steps[2] > 2 * np.delete(steps, 2).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_movers": 9}, "9 movers cannot be made"),
        ({"width": 8}, "too small"),
        ({"variant": Variant.MOVE_AS_ONE, "n_movers": 1}, "needs two movers"),
    ],
)
def test_specs_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SceneSpec(**options)
