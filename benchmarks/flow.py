"""Accuracy and cost of optical flow on a scene whose geometry is known.

The true flow of a pixel follows from its depth and its object's motion. Printed per method, stride and object: median and
90 % end-point error of the pixels that are visible in both frames, the share of them marked consistent, the share of
consistent pixels that are right to 1 px, and CPU time per flow field.

    python -m benchmarks.flow SCENE --method dis --method raft-small --weights raft-small.pth
"""

import argparse
import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from benchmarks.tables import record
from pipelines.artifacts import Video
from pipelines.flow import FlowConfig, FlowMethod, compute_flow
from pipelines.geometry import invert, pixel_centres, project, ray_directions, transform
from pipelines.ground_truth import GroundTruth
from pipelines.stage import ItemCache, StageContext

VISIBLE_DEPTH_RATIO = 0.01
"""A point is hidden where the other frame's surface is nearer by more than this share of its depth."""


@dataclass(frozen=True)
class TrueFlow:
    """Flow from frame t to u, valid where the point that t shows is also seen in u."""

    flow_px: Float[np.ndarray, "H W 2"]
    visible: Bool[np.ndarray, "H W"]


def true_flow(truth: GroundTruth, t: int, u: int) -> TrueFlow:
    """Move every pixel's surface point with its object."""
    cam_from_obj = truth.cam_from_obj()
    xy = pixel_centres(truth.width, truth.height)
    depth, labels = truth.depth_train[t].astype(float), truth.segm_train[t]
    points = ray_directions(truth.intrinsics, xy) * depth[..., None]
    moved = np.full_like(points, np.nan)
    for k in range(truth.n_objects):
        seen = (labels == k) & (depth > 0)
        later_from_now = cam_from_obj[k, u] @ invert(cam_from_obj[k, t])
        moved[seen] = transform(later_from_now, points[seen])
    target = project(truth.intrinsics, moved)
    column, row = (target[..., i].astype(np.float32) - 0.5 for i in (0, 1))
    options = {"interpolation": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT, "borderValue": 0}
    surface = cv2.remap(truth.depth_train[u].astype(np.float32), column, row, **options)
    label = cv2.remap(truth.segm_train[u], column, row, **options)
    same_depth = np.abs(moved[..., 2] - surface) <= VISIBLE_DEPTH_RATIO * moved[..., 2]
    return TrueFlow(target - xy, same_depth & (label == labels) & (surface > 0))


def video_of(truth: GroundTruth, folder: Path, n_frames: int) -> Video:
    for t, path in enumerate(truth.images_train[:n_frames]):
        cv2.imwrite(str(folder / f"{t:06d}.png"), cv2.imread(str(path)))
    return Video(folder, truth.width, truth.height, n_frames, truth.fps, str(truth.folder))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(truth: GroundTruth, config: FlowConfig, n_frames: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        frames, out = Path(folder, "frames"), Path(folder, "flow")
        frames.mkdir()
        out.mkdir()
        video = video_of(truth, frames, n_frames)
        before = cpu_s()
        flow = compute_flow(config, video=video, context=StageContext(out, ItemCache(Path(folder, "items"))))
        seconds = (cpu_s() - before) / len(flow.pairs)
        rows: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
        for t, u in flow.pairs:
            true, (found, ok) = true_flow(truth, t, u), flow.read(t, u)
            error = np.linalg.norm(found - true.flow_px, axis=-1)
            for k in range(truth.n_objects):
                chosen = (truth.segm_train[t] == k) & true.visible
                rows.setdefault((abs(u - t), k), []).append((error[chosen], ok[chosen]))
            hidden = ok & ~true.visible & (truth.depth_train[t] > 0)
            rows.setdefault((abs(u - t), -1), []).append((error[hidden], ok[hidden]))
    print(f"\n{config.method}: {seconds:.3f} CPU s per field of {truth.width} x {truth.height}")
    print("stride  object  median px   90 % px   consistent   consistent and < 1 px")
    for (stride, k), parts in sorted(rows.items()):
        error, ok = (np.concatenate(column) for column in zip(*parts, strict=True))
        if k < 0:
            print(f"{stride:6d}  hidden yet marked consistent: {len(error) / len(parts):.0f} px per field")
            continue
        if not ok.any():
            print(f"{stride:6d}  {k:6d}  nothing consistent among {len(ok)} px")
            continue
        right = (error[ok] < 1).mean()
        key = {"method": str(config.method), "stride": str(stride), "object": str(k)}
        record("flow", {**key, "median_px": float(np.median(error)), "share_right": float(right), "cpu_s": seconds})
        print(f"{stride:6d}  {k:6d}  {np.median(error):9.3f}  {np.quantile(error, 0.9):8.3f}  {ok.mean():11.3f}  {right:11.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--method", type=FlowMethod, action="append", choices=list(FlowMethod))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    truth = GroundTruth.load(options.scene)
    for method in options.method or [FlowMethod.DIS]:
        weights = None if method is FlowMethod.DIS else options.weights
        config = FlowConfig(method=method, weights=weights, strides=tuple(options.strides))
        measure(truth, config, min(options.frames, truth.n_frames))


if __name__ == "__main__":
    main()
