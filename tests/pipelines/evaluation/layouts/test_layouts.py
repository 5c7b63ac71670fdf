"""One small scene, written in exactly the format of each layout, must be read as what it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import geometry, palette_png
from pipelines.artifacts import Labels, ObjectModel, SfmStatus, Video
from pipelines.errors import InputError
from pipelines.evaluation.layouts import load_truth
from pipelines.formats import colmap as colmap_format
from pipelines.formats import nerfstudio as nerfstudio_format
from pipelines.ground_truth import GroundTruth
from pipelines.synthetic import SceneSpec, SyntheticScene, make_scene

T, WIDTH, HEIGHT = 4, 64, 48


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return make_scene(SceneSpec(seed=2, n_movers=1, n_frames=T, width=WIDTH, height=HEIGHT, candidates=1))


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def opengl(cam_from_world: np.ndarray) -> list:
    """Camera to world, the y and z axes of the camera turned over."""
    world_from_camera = np.linalg.inv(cam_from_world)
    world_from_camera[:3, 1:3] *= -1
    return world_from_camera.tolist()


def assert_same_cameras(truth: GroundTruth, scene: SyntheticScene) -> None:
    np.testing.assert_allclose(truth.intrinsics, scene.intrinsics, atol=1e-6)
    np.testing.assert_allclose(truth.cam_from_world_train, scene.cam_from_world_train, atol=1e-6)
    np.testing.assert_array_equal(truth.image_train(2), scene.images_train[2])
    assert (truth.width, truth.height, truth.n_frames) == (WIDTH, HEIGHT, T)


def write_processed(folder: Path, scene: SyntheticScene) -> None:
    for part, images, poses in (
        ("train", scene.images_train, scene.cam_from_world_train),
        ("test", scene.images_test, scene.cam_from_world_test),
    ):
        frames = []
        for t in range(T):
            save(folder / f"images_{part}" / f"{t:04d}.png", images[t])
            objects = [pose.tolist() for pose in scene.world_from_object[t, 1:]]
            matrix = opengl(poses[t])
            frames.append({"file_path": f"images_{part}/{t:04d}", "transform_matrix": matrix, "object_poses": objects})
        angle = 2 * np.arctan(WIDTH / 2 / scene.intrinsics[0, 0])
        (folder / f"transforms_{part}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    for part in ("train", "test"):
        for kind in ("segm", "depth"):
            (folder / f"{kind}_{part}").mkdir()
        for t in range(T):
            palette_png.write(folder / f"segm_{part}" / f"{t:04d}.png", getattr(scene, f"segm_{part}")[t])
            np.save(folder / f"depth_{part}" / f"{t:04d}.npy", getattr(scene, f"depth_{part}")[t])


def test_processed(scene, tmp_path):
    write_processed(tmp_path, scene)
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    np.testing.assert_allclose(truth.world_from_object, scene.world_from_object)
    np.testing.assert_allclose(truth.cam_from_world_test, scene.cam_from_world_test, atol=1e-9)
    np.testing.assert_array_equal(truth.segm_test, scene.segm_test)
    np.testing.assert_array_equal(truth.depth_train, scene.depth_train)
    assert truth.frame_test.tolist() == [0, 1, 2, 3]


def test_processed_with_another_lens_and_in_any_order(scene, tmp_path):
    write_processed(tmp_path, scene)
    for part, angle in (("train", None), ("test", 1.5)):
        path = tmp_path / f"transforms_{part}.json"
        stated = json.loads(path.read_text())
        stated["frames"].reverse()
        path.write_text(json.dumps(stated | ({"camera_angle_x": angle} if angle else {})))
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    np.testing.assert_allclose(truth.cam_from_world_test, scene.cam_from_world_test, atol=1e-9)
    np.testing.assert_array_equal(truth.image_test(2), scene.images_test[2])
    assert truth.view_intrinsics(2)[0, 0] == pytest.approx(WIDTH / 2 / np.tan(0.75))


def test_depth_maps_as_others_write_them(scene, tmp_path):
    """With a last axis of one, at another size, infinite in the sky."""
    write_processed(tmp_path, scene)
    for t in range(T):
        depth = np.repeat(np.repeat(scene.depth_train[t].astype(np.float64), 2, 0), 2, 1)
        depth[:10] = np.inf
        np.save(tmp_path / "depth_train" / f"{t:04d}.npy", depth[..., None])
    truth = load_truth(tmp_path)
    assert truth.depth_train is not None and (truth.depth_train[:, :5] == 0).all()
    np.testing.assert_allclose(truth.depth_train[:, 5:], scene.depth_train[:, 5:])
    np.save(tmp_path / "depth_train" / "0001.npy", np.zeros((4, 4, 3)))
    with pytest.raises(InputError, match="height and width only"):
        load_truth(tmp_path)


def test_processed_with_a_missing_depth_map(scene, tmp_path):
    write_processed(tmp_path, scene)
    (tmp_path / "depth_test" / "0002.npy").unlink()
    with pytest.raises(InputError, match=r"no 0002\.npy"):
        load_truth(tmp_path)


def write_llff(folder: Path, scene: SyntheticScene, n_cameras: int) -> None:
    """A rig of cameras; frame t is filmed by camera t modulo their number."""
    rows = []
    for t in range(T):
        save(folder / "images" / f"{t:05d}.png", scene.images_train[t])
        world_from_camera = np.linalg.inv(scene.cam_from_world_train[t])
        right, down, forward, centre = world_from_camera[:3].T
        size = np.array([2 * HEIGHT, 2 * WIDTH, 2 * scene.intrinsics[0, 0]])  # the table refers to images twice as large
        rows.append(np.concatenate([np.stack([down, right, -forward, centre, size], 1).ravel(), [1.0, 20.0]]))
        for camera in range(n_cameras):
            save(folder / "mv_images" / f"{t:05d}" / f"cam{camera + 1:02d}.png", scene.images_test[t])
    np.save(folder / "poses_bounds.npy", np.array(rows))


def test_llff(scene, tmp_path):
    write_llff(tmp_path, scene, n_cameras=3)
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    assert truth.n_test == T * 2
    assert truth.frame_test.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # At time 1 camera 1 filmed, so cameras 0 and 2 are held out.
    np.testing.assert_allclose(truth.cam_from_world_test[2:4], scene.cam_from_world_train[[0, 2]], atol=1e-6)
    np.testing.assert_array_equal(truth.image_test(4), scene.images_test[2])


def test_llff_with_gaps(scene, tmp_path):
    """Folders are numbered from 1, one camera has no picture at one time, and something else lies about."""
    write_llff(tmp_path, scene, n_cameras=3)
    for t in reversed(range(T)):
        (tmp_path / "mv_images" / f"{t:05d}").rename(tmp_path / "mv_images" / f"{t + 1:05d}")
    (tmp_path / "mv_images" / "00001" / "cam02.png").unlink()
    (tmp_path / "mv_images" / ".DS_Store").write_text("")
    truth = load_truth(tmp_path)
    assert truth.frame_test.tolist() == [0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(truth.cam_from_world_test[0], scene.cam_from_world_train[2], atol=1e-6)
    write_llff(tmp_path / "many", scene, n_cameras=T + 1)
    with pytest.raises(InputError, match="only 4 frames tell where they stand"):
        load_truth(tmp_path / "many")


def test_llff_tables_of_another_shape_are_refused(scene, tmp_path):
    write_llff(tmp_path, scene, n_cameras=2)
    np.save(tmp_path / "poses_bounds.npy", np.zeros((4, 15)))
    with pytest.raises(InputError, match=r"expected \(N, 17\)"):
        load_truth(tmp_path)


def write_nerfies(folder: Path, scene: SyntheticScene, distortion: float = 0.0) -> None:
    metadata, train, test = {}, [], []
    for camera, (images, poses, ids) in enumerate(
        ((scene.images_train, scene.cam_from_world_train, train), (scene.images_test, scene.cam_from_world_test, test))
    ):
        for t in range(0, T, 1 + camera):
            name = f"{camera}_{t:05d}"
            ids.append(name)
            metadata[name] = {"warp_id": t, "appearance_id": t, "camera_id": camera}
            save(folder / "rgb" / "2x" / f"{name}.png", images[t])
            rotation = poses[t, :3, :3]
            lens = {
                "orientation": rotation.tolist(),
                "position": (-rotation.T @ poses[t, :3, 3]).tolist(),
                "focal_length": 2 * scene.intrinsics[0, 0],
                "principal_point": [WIDTH, HEIGHT],
                "skew": 0.0,
                "pixel_aspect_ratio": 1.0,
                "radial_distortion": [distortion, 0.0, 0.0],
                "tangential_distortion": [0.0, 0.0],
                "image_size": [2 * WIDTH, 2 * HEIGHT],
            }
            (folder / "camera").mkdir(exist_ok=True)
            (folder / "camera" / f"{name}.json").write_text(json.dumps(lens))
            if camera == 1:
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                mask[:, : WIDTH // 2] = 255
                save(folder / "covisible" / "2x" / "val" / f"{name}.png", mask)
    dataset = {"count": len(metadata), "num_exemplars": len(train), "ids": list(metadata), "train_ids": train, "val_ids": test}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (folder / "scene.json").write_text(json.dumps({"scale": 0.1, "center": [0, 0, 0], "near": 0.1, "far": 2.0}))


def test_nerfies(scene, tmp_path):
    write_nerfies(tmp_path, scene)
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    assert truth.frame_test.tolist() == [0, 2]
    np.testing.assert_allclose(truth.cam_from_world_test[1], scene.cam_from_world_test[2], atol=1e-9)
    np.testing.assert_allclose(truth.view_intrinsics(1), scene.intrinsics)
    assert truth.covisible_test is not None and truth.covisible_test[:, :, : WIDTH // 2].all()
    assert not truth.covisible_test[:, :, WIDTH // 2 :].any()


def test_covisible_pixels_at_another_size(scene, tmp_path):
    """As DyCheck has them: images at 1x, masks at 2x."""
    write_nerfies(tmp_path, scene)
    (tmp_path / "rgb" / "2x").rename(tmp_path / "rgb" / "1x")
    for path in (tmp_path / "covisible" / "2x" / "val").iterdir():
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.NEAREST).save(path)
    truth = load_truth(tmp_path)
    assert truth.covisible_test is not None and truth.covisible_test.shape == (2, HEIGHT, WIDTH)
    assert truth.covisible_test[:, :, : WIDTH // 2].all() and not truth.covisible_test[:, :, WIDTH // 2 :].any()


def test_distortion_under_its_older_name_is_refused(scene, tmp_path):
    write_nerfies(tmp_path, scene)
    path = next((tmp_path / "camera").iterdir())
    lens = json.loads(path.read_text())
    lens["tangential"] = [*lens.pop("tangential_distortion")[:1], 0.05]
    path.write_text(json.dumps(lens))
    with pytest.raises(InputError, match="lens distortion"):
        load_truth(tmp_path)


def test_lens_distortion_is_refused(scene, tmp_path):
    write_nerfies(tmp_path, scene, distortion=0.05)
    with pytest.raises(InputError, match="lens distortion"):
        load_truth(tmp_path)


def test_nerfstudio_as_our_exporter_writes_it(scene, tmp_path):
    scene.write(tmp_path / "scene")
    frames = tmp_path / "frames"
    frames.mkdir()
    for t in range(T):
        save(frames / f"{t:06d}.png", scene.images_train[t])
    video = Video(frames, WIDTH, HEIGHT, T, 12.0, "synthetic")
    nerfstudio_format.write_nerfstudio(
        tmp_path / "out",
        intrinsics=scene.intrinsics,
        cam_from_world=scene.cam_from_world_train,
        registered=np.ones(T, bool),
        video=video,
        labels=Labels(scene.segm_train, scene.names),
    )
    truth = load_truth(tmp_path / "out")
    assert_same_cameras(truth, scene)
    assert truth.n_test == 0


def test_nerfstudio_with_held_out_frames(scene, tmp_path):
    frames = []
    for t in range(T):
        save(tmp_path / "images" / f"frame_{t:05d}.png", scene.images_train[t])
        frames.append({"file_path": f"images/frame_{t:05d}.png", "transform_matrix": opengl(scene.cam_from_world_train[t])})
    for t in (1, 3):
        save(tmp_path / "images_test" / f"frame_{t:05d}.png", scene.images_test[t])
        frames.append({"file_path": f"images_test/frame_{t:05d}.png", "transform_matrix": opengl(scene.cam_from_world_test[t])})
    focal = scene.intrinsics[0, 0]
    shared = {"fl_x": focal, "fl_y": focal, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    (tmp_path / "transforms.json").write_text(json.dumps(shared | {"frames": frames[::-1]}))
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    assert sorted(truth.frame_test.tolist()) == [1, 3]
    view = truth.frame_test.tolist().index(3)
    np.testing.assert_allclose(truth.cam_from_world_test[view], scene.cam_from_world_test[3], atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "camera of model OPENCV_FISHEYE"),
        ({"k4": 0.1}, "lens distortion"),
        ({"frames": [{"file_path": "images/0.png"}]}, "no 'transform_matrix'"),
        ({"frames": [{"file_path": "images/0.png", "transform_matrix": [1, 2]}]}, "not a camera's place"),
        ({"frames": [{"transform_matrix": np.eye(4).tolist()}]}, "no 'file_path'"),
    ],
)
def test_nerfstudio_that_cannot_be_read_says_why(changes, message, scene, tmp_path):
    save(tmp_path / "images" / "0.png", scene.images_train[0])
    frames = [{"file_path": "images/0.png", "transform_matrix": np.eye(4).tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 50.0, "frames": frames} | changes))
    with pytest.raises(InputError, match=message):
        load_truth(tmp_path)


def test_nerfstudio_without_a_focal_length(scene, tmp_path):
    save(tmp_path / "images" / "0.png", scene.images_train[0])
    frames = [{"file_path": "images/0.png", "transform_matrix": np.eye(4).tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    with pytest.raises(InputError, match="focal length is not known"):
        load_truth(tmp_path)


def test_colmap_as_our_exporter_writes_it(scene, tmp_path):
    names = [f"{t:06d}.png" for t in range(T)]
    for t, name in enumerate(names):
        save(tmp_path / "images" / name, scene.images_train[t])
    empty = ObjectModel.failed(0, SfmStatus.NO_TRACKS, "", T)
    arrays = {name: getattr(empty, name) for name in ObjectModel.ARRAYS}
    arrays |= {"registered": np.ones(T, bool), "cam_from_obj": scene.cam_from_world_train}
    model = ObjectModel(object_id=0, status=SfmStatus.OK, reason="", **arrays)
    colmap_format.write_model(
        tmp_path / "sparse" / "0", model, intrinsics=scene.intrinsics, width=WIDTH, height=HEIGHT, image_names=names
    )
    assert_same_cameras(load_truth(tmp_path), scene)


def test_colmap_text_with_held_out_images(scene, tmp_path):
    """A model as a person may write it: text files, a test image, and images of half the camera's size."""
    from scipy.spatial.transform import Rotation

    lines = []
    shots = [(f"{t:03d}.png", scene.images_train[t], scene.cam_from_world_train[t]) for t in range(T)]
    shots.append(("test_002.png", scene.images_test[2], scene.cam_from_world_test[2]))
    for number, (name, image, pose) in enumerate(shots, 1):
        save(tmp_path / "images" / name, image)
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        numbers = " ".join(f"{value:.17g}" for value in (w, x, y, z, *pose[:3, 3]))
        lines += [f"{number} {numbers} 1 {name}", ""]
    sparse = tmp_path / "sparse"
    sparse.mkdir()
    focal = 2 * scene.intrinsics[0, 0]
    (sparse / "cameras.txt").write_text(f"1 SIMPLE_PINHOLE {2 * WIDTH} {2 * HEIGHT} {focal:.17g} {WIDTH} {HEIGHT}\n")
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    (sparse / "points3D.txt").write_text("")
    truth = load_truth(tmp_path)
    assert_same_cameras(truth, scene)
    assert truth.frame_test.tolist() == [2]
    np.testing.assert_allclose(truth.cam_from_world_test[0], scene.cam_from_world_test[2], atol=1e-6)
    assert geometry.rotation_angle_deg(truth.cam_from_world_test[0, :3, :3] @ scene.cam_from_world_test[2, :3, :3].T) < 1e-4


def test_a_damaged_layout_is_refused(tmp_path):
    (tmp_path / "transforms.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_truth(tmp_path)


def damage_llff(folder: Path, scene: SyntheticScene) -> None:
    write_llff(folder, scene, n_cameras=2)
    (folder / "poses_bounds.npy").write_bytes(b"no array")


def damage_nerfies(folder: Path, scene: SyntheticScene) -> None:
    write_nerfies(folder, scene)
    (folder / "metadata.json").write_text("{}")


def damage_mask(folder: Path, scene: SyntheticScene) -> None:
    write_nerfies(folder, scene)
    next((folder / "covisible" / "2x" / "val").iterdir()).write_bytes(b"no image")


def damage_depth(folder: Path, scene: SyntheticScene) -> None:
    write_processed(folder, scene)
    (folder / "depth_train" / "0000.npy").write_bytes(b"")


def damage_colmap(folder: Path, scene: SyntheticScene) -> None:
    (folder / "sparse").mkdir(parents=True)
    (folder / "sparse" / "cameras.bin").write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_llff, damage_nerfies, damage_mask, damage_depth, damage_colmap])
def test_damage_is_told_in_one_line(damage, scene, tmp_path):
    damage(tmp_path, scene)
    with pytest.raises(InputError) as caught:
        load_truth(tmp_path)
    assert "\n" not in str(caught.value)
