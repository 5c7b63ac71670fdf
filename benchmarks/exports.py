"""Meshes and exports of a trained scene whose truth is known.

Printed per object: triangles, F-score of the mesh against the surface that the camera saw (at 1 % and 2 % of the object's
size), and the mean IoU of its silhouette with its mask, the mesh being placed and projected by the animated nodes and the
camera of the exported GLB. Then CPU time and size of the meshes, of 100 GLB files, and of a rendered frame.

    python -m benchmarks.exports TRUTH_DIR WORKSPACE
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.tables import record
from pipelines.artifacts import Labels, Samples, Sfm, Video
from pipelines.evaluation.alignment import aligned_motion
from pipelines.export import ExportConfig, export
from pipelines.formats.placement import Placement, place
from pipelines.ground_truth import GroundTruth
from pipelines.meshing.accuracy import mesh_accuracy, object_size, seen_surface
from pipelines.meshing.mesh import Mesh
from pipelines.meshing.surfaces import MeshConfig, Surface, scene_meshes
from pipelines.scenery import SceneLike
from pipelines.stage import ItemCache, StageContext

SILHOUETTE_FRAMES = 6


def silhouette(
    mesh: Mesh, placement: Placement, column: int, t: int, intrinsics: Float[np.ndarray, "3 3"], width: int, height: int
) -> Bool[np.ndarray, "h w"]:
    """Pixels that the placed mesh covers in the exported camera (OpenGL axes)."""
    import cv2

    in_camera = placement.in_camera(mesh.vertices.astype(float), column, t) * [1, -1, -1]
    pixels = (in_camera @ intrinsics.T)[:, :2] / in_camera[:, 2:]
    covered = np.zeros((height, width), np.uint8)
    in_front = (in_camera[:, 2] > 1e-6)[mesh.faces].all(1)
    for triangle in np.round((pixels[mesh.faces[in_front]] - 0.5) * 16).astype(np.int32):
        cv2.fillConvexPoly(covered, triangle, 1, shift=4)
    return covered.astype(bool)


def silhouette_iou(scene: SceneLike, mesh: Mesh, column: int, labels: Labels) -> float:
    """Mean over frames. Where another object hides this one nothing is expected of it: those pixels are left out."""
    placement = place(scene, np.ones(len(scene.names)))
    frames = np.flatnonzero(placement.visible[column])
    chosen = frames[np.linspace(0, len(frames) - 1, SILHOUETTE_FRAMES).round().astype(int)]
    label = scene.object_ids[column]
    scores = []
    for t in chosen:
        mask, other = labels.maps[t] == label, ~np.isin(labels.maps[t], (0, label))
        if mask.sum() < 20:
            continue
        covered = silhouette(mesh, placement, column, int(t), scene.intrinsics, scene.width, scene.height) & ~other
        scores.append((mask & covered).sum() / (mask | covered).sum())
    return float(np.mean(scores)) if scores else float("nan")


def report_meshes(
    config: MeshConfig, scene: SceneLike, video: Video, labels: Labels, truth: GroundTruth, items: ItemCache
) -> None:
    """One line per moving object."""
    started = time.process_time()
    context = StageContext(items.folder, items)
    meshes = scene_meshes(config, scene=scene, labels=labels, video=video, context=context)
    print(f"{config.objects}: meshes in {time.process_time() - started:.0f} s CPU")
    for column, label in enumerate(scene.object_ids):
        mesh = meshes[column]
        found = aligned_motion(scene.cam_from_obj[column], scene.registered[column], truth, label)
        points = seen_surface(truth, label)
        size = object_size(points)
        scores = [
            mesh_accuracy(mesh, points, true_from_mesh=found.true_from_est, tolerance=share * size) for share in (0.01, 0.02)
        ]
        figures = ", ".join(f"F {s.f_score:.3f} (P {s.precision:.3f} R {s.recall:.3f})" for s in scores)
        f_score = {"f_score_1_percent": scores[0].f_score, "f_score_2_percent": scores[1].f_score}
        record("exports", {"surface": str(config.objects), "object": str(label), **f_score})
        iou = silhouette_iou(scene, mesh, column, labels) if column else float("nan")
        print(f"  {scene.names[column]:12} {len(mesh.faces):7} faces  at 1 %, 2 %: {figures}  silhouette IoU {iou:.3f}")


def report_exports(scene: SceneLike, video: Video, labels: Labels, sfm: Sfm, samples: Samples, items: ItemCache) -> None:
    """Time and size of 100 GLB files, and time of a rendered frame."""
    with tempfile.TemporaryDirectory() as folder:
        context = StageContext(Path(folder), items)
        config = ExportConfig(glb=True, sample="diverse:100")
        export(config, video=video, labels=labels, sfm=sfm, scene=scene, samples=samples, context=context)
        started = time.process_time()
        written = export(config, video=video, labels=labels, sfm=sfm, scene=scene, samples=samples, context=context)
        size_mb = sum(path.stat().st_size for path in written) / 2**20
        print(f"{len(written)} GLB files with meshes at hand: {time.process_time() - started:.1f} s CPU, {size_mb:.0f} MiB")
    started = time.process_time()
    scene.render(t=int(np.argmax(scene.registered[0])), scale=np.ones(len(scene.names)))
    print(f"one rendered frame of {scene.width} x {scene.height}: {time.process_time() - started:.1f} s CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, help="folder with gt.npz")
    parser.add_argument("workspace", type=Path, help="workspace with the scene trained on that video and its samples")
    arguments = parser.parse_args()
    from pipelines.scene.scene import Scene

    workspace = arguments.workspace
    scene = Scene.load(workspace / "train")
    video, labels = Video.load(workspace / "frames"), Labels.load(workspace / "segment")
    sfm = Sfm.load(workspace / "sfm")
    truth = GroundTruth.load(arguments.truth)
    with tempfile.TemporaryDirectory() as folder:
        items = ItemCache(Path(folder))
        for surface in Surface:
            report_meshes(MeshConfig(objects=surface), scene, video, labels, truth, items)
        samples = Samples.load(workspace / "sample")
        report_exports(scene, video, labels, sfm, samples, items)


if __name__ == "__main__":
    main()
