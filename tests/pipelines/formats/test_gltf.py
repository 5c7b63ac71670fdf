"""The animated GLB, read back as a viewer reads it: nodes, animation and camera put every object over its silhouette."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.formats.gltf import PinholeCamera, SceneAsset, linear_rgba16, mesh_glb, read_glb
from pipelines.formats.placement import place
from pipelines.meshing.mesh import Mesh


def box_mesh(half) -> Mesh:
    import trimesh

    box = trimesh.creation.box(2 * np.array(half)).subdivide().subdivide()
    return Mesh.build(np.array(box.vertices, float), np.array(box.faces, int))


def ball_mesh(radius: float) -> Mesh:
    import trimesh

    ball = trimesh.creation.icosphere(3, radius)
    return Mesh.build(np.array(ball.vertices, float), np.array(ball.faces, int))


@pytest.fixture(scope="module")
def toy_meshes():
    return [box_mesh((3.0, 2.0, 4.0)), ball_mesh(0.5), box_mesh((0.4, 0.5, 0.3))]


def written(scene, meshes, scale, folder: Path) -> Path:
    camera = PinholeCamera.from_intrinsics(scene.intrinsics, scene.width, scene.height, 0.01, 100.0)
    path = folder / "scene.glb"
    path.write_bytes(SceneAsset.build(meshes, scene.names).glb(place(scene, scale), camera))
    return path


def pose_at(document, values, node_index, t):
    """Translation, rotation and scale of a node at key frame t: from its channels, else from the node itself."""
    node = document["nodes"][node_index]
    trs = {path: np.array(node.get(path, default)) for path, default in
           (("translation", [0, 0, 0]), ("rotation", [0, 0, 0, 1]), ("scale", [1, 1, 1]))}  # fmt: skip
    for channel in document["animations"][0]["channels"]:
        if channel["target"]["node"] == node_index:
            sampler = document["animations"][0]["samplers"][channel["sampler"]]
            trs[channel["target"]["path"]] = values[sampler["output"]][t]
    return trs["translation"], Rotation.from_quat(trs["rotation"]), trs["scale"]


def silhouette(document, values, name, t, width, height) -> np.ndarray:
    """The pixels that a mesh covers, by filling its triangles as the animated glTF camera projects them."""
    import cv2

    camera_index = next(i for i, node in enumerate(document["nodes"]) if "camera" in node)
    index = next(i for i, node in enumerate(document["nodes"]) if node["name"] == name)
    primitive = document["meshes"][document["nodes"][index]["mesh"]]["primitives"][0]
    vertices, faces = values[primitive["attributes"]["POSITION"]], values[primitive["indices"]].reshape(-1, 3)
    position, rotation, scale = pose_at(document, values, index, t)
    camera_position, camera_rotation, _ = pose_at(document, values, camera_index, t)
    in_camera = camera_rotation.inv().apply(rotation.apply(vertices * scale) + position - camera_position)
    perspective = document["cameras"][0]["perspective"]
    focal = 1 / np.tan(perspective["yfov"] / 2)
    ndc = in_camera[:, :2] / -in_camera[:, 2:] * focal / [perspective["aspectRatio"], 1.0]
    pixels = (ndc * [1, -1] + 1) / 2 * [width, height]
    covered = np.zeros((height, width), np.uint8)
    # OpenCV's pixel centres are whole numbers; 4 fractional bits.
    for triangle in np.round((pixels[faces] - 0.5) * 16).astype(np.int32):
        cv2.fillConvexPoly(covered, triangle, 1, shift=4)
    return covered.astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (1.0, 0.7, 1.4)])
def test_the_animated_camera_sees_each_object_over_its_silhouette(toy_scene, toy_meshes, tmp_path, scale):
    document, values = read_glb(written(toy_scene, toy_meshes, np.array(scale), tmp_path))
    width, height = 2 * toy_scene.width, 2 * toy_scene.height
    alone = toy_scene.alone_maps(width=width, frames=range(toy_scene.n_frames))
    for t in (0, 7):
        for column, name in ((1, "ball"), (2, "box")):
            truth = np.isfinite(alone.depth[t, column])
            assert iou(silhouette(document, values, name, t, width, height), truth) > 0.95


def test_scales_sit_in_the_nodes_and_meshes_are_shared_between_samples(toy_scene, toy_meshes):
    asset = SceneAsset.build(toy_meshes, toy_scene.names)
    camera = PinholeCamera(1.0, 1.0, 0.1, 10.0)
    one = asset.glb(place(toy_scene, np.array([1.0, 1.0, 1.0])), camera)
    two = asset.glb(place(toy_scene, np.array([1.0, 0.5, 1.0])), camera)
    assert len(asset.buffer.parts) == 3 * 4
    mesh_bytes = b"".join(asset.buffer.parts)
    assert mesh_bytes in one and mesh_bytes in two
    nodes = json.loads(two[20 : 20 + int.from_bytes(two[12:16], "little")])["nodes"]
    assert [node.get("scale") for node in nodes] == [[1.0] * 3, [0.5] * 3, [1.0] * 3, None]


def test_an_object_is_hidden_by_scale_zero_where_it_did_not_register(toy_scene, toy_meshes, tmp_path):
    registered = toy_scene.registered.copy()
    registered[1, 3:5] = False
    scene = dataclasses.replace(toy_scene, registered=registered)
    document, values = read_glb(written(scene, toy_meshes, np.array([1.0, 2.0, 1.0]), tmp_path))
    scales = [pose_at(document, values, 1, t)[2][0] for t in range(8)]
    assert scales == [2.0, 2.0, 2.0, 0.0, 0.0, 2.0, 2.0, 2.0]
    steps = [s["interpolation"] for s in document["animations"][0]["samplers"]]
    assert steps.count("STEP") == 1


def test_camera_angles_by_hand():
    camera = PinholeCamera.from_intrinsics(np.diag([100.0, 50.0, 1.0]), 200, 100, 0.1, 10.0)
    assert camera.yfov_rad == pytest.approx(np.pi / 2)
    assert camera.aspect == pytest.approx(1.0)


def test_vertex_colours_are_linear():
    rgba = linear_rgba16(np.array([[0, 255, 188]], np.uint8))
    assert rgba.tolist() == [[0, 65535, 32960, 65535]] or abs(int(rgba[0, 2]) - 32960) < 300


VALIDATOR = """
const validator = require('gltf-validator'), fs = require('fs');
validator.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])))
  .then(report => console.log(JSON.stringify(report.issues)));
"""


def test_khronos_validator_finds_nothing(toy_scene, toy_meshes, tmp_path):
    """Runs where Node.js finds the package `gltf-validator` (NODE_PATH, or installed globally)."""
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode != 0:
        pytest.skip("the npm package gltf-validator is not installed")
    registered = toy_scene.registered.copy()
    registered[1, 3] = False
    still = dataclasses.replace(toy_scene, cam_from_obj=toy_scene.cam_from_obj[:, :1], registered=registered[:, :1])
    moving = dataclasses.replace(toy_scene, registered=registered)
    paths = [written(moving, toy_meshes, np.array([1.0, 1.3, 0.7]), tmp_path)]
    for name, content in (("one", mesh_glb(toy_meshes[1], "ball")), ("lit", mesh_glb(toy_meshes[1], "ball", unlit=False))):
        paths.append(tmp_path / f"{name}.glb")
        paths[-1].write_bytes(content)
    (tmp_path / "still").mkdir()
    (tmp_path / "none").mkdir()
    paths.append(written(still, toy_meshes, np.ones(3), tmp_path / "still"))
    paths.append(written(moving, [Mesh.empty()] * 3, np.ones(3), tmp_path / "none"))
    for path in paths:
        issues = json.loads(subprocess.run([node, "-e", VALIDATOR, path], capture_output=True, check=True).stdout)
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
