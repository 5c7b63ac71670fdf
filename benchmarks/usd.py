"""An exported USD stage, read with usd-core: has every variant its sample's scales, and do the meshes lie over the masks?

    python -m benchmarks.usd SCENES.usdc WORKSPACE

Each mesh is taken through its prim's transform and the filmed camera at evenly spread frames, and its triangles are filled.
Where another object hides this one nothing is expected of it: those pixels are left out.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from benchmarks.tables import record
from pipelines.artifacts import BACKGROUND, Labels, Samples, Video

N_FRAMES = 8
LEAST_PX = 50


def covered(clip: Float[np.ndarray, "V 4"], faces: np.ndarray, width: int, height: int) -> Bool[np.ndarray, "height width"]:
    """Pixels under the triangles whose corners have these homogeneous clip coordinates."""
    pixels = (clip[:, :2] / clip[:, 3:] * [1, -1] + 1) / 2 * [width, height]
    picture = np.zeros((height, width), np.uint8)
    for triangle in np.round((pixels[faces[(clip[:, 3] > 1e-6)[faces].all(1)]] - 0.5) * 16).astype(np.int32):
        cv2.fillConvexPoly(picture, triangle, 1, shift=4)
    return picture.astype(bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=Path)
    parser.add_argument("workspace", type=Path, help="workspace that the stage was exported from")
    arguments = parser.parse_args()
    from pxr import Usd, UsdGeom

    video, labels = Video.load(arguments.workspace / "frames"), Labels.load(arguments.workspace / "segment")
    samples = Samples.load(arguments.workspace / "sample")
    stage = Usd.Stage.Open(str(arguments.stage))
    variants = stage.GetDefaultPrim().GetVariantSets().GetVariantSet("sample")
    names = variants.GetVariantNames()
    print(f"up axis {UsdGeom.GetStageUpAxis(stage)}, {UsdGeom.GetStageMetersPerUnit(stage)} m per unit")
    print(f"{stage.GetTimeCodesPerSecond()} time codes per second, variants {', '.join(names)}")
    objects = {
        int(prim.GetName().split("_")[1]): prim for prim in stage.GetDefaultPrim().GetChildren() if "object_" in prim.GetName()
    }
    for variant in names:
        variants.SetVariantSelection(variant)
        row = int(variant.rsplit("_", 1)[1])
        for label, prim in objects.items():
            column = samples.object_ids.tolist().index(label)
            if label == BACKGROUND:
                continue
            mesh = UsdGeom.Mesh(prim.GetChild("mesh"))
            points = np.array(mesh.GetPointsAttr().Get(), float)
            faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
            scores = []
            for t in np.linspace(0, video.n_frames - 1, N_FRAMES).round().astype(int):
                mask, other = labels.maps[t] == label, ~np.isin(labels.maps[t], (BACKGROUND, label))
                node = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(int(t)))
                scale = np.linalg.norm(node[0, :3])
                if abs(scale / samples.scale[row, column] - 1) > 1e-6:
                    raise SystemExit(f"{variant}, object {label}: scale {scale} instead of {samples.scale[row, column]}")
                if mask.sum() < LEAST_PX:
                    continue
                frustum = UsdGeom.Camera(stage.GetPrimAtPath("/scene/filmed_camera")).GetCamera(int(t)).frustum
                view = np.array(frustum.ComputeViewMatrix()) @ np.array(frustum.ComputeProjectionMatrix())
                clip = np.concatenate([points, np.ones((len(points), 1))], 1) @ node @ view
                picture = covered(clip, faces, video.width, video.height) & ~other
                scores.append(float((picture & mask).sum() / (picture | mask).sum()))
            if not scores:
                print(f"{variant} {labels.names[label]:12} is nowhere as large as {LEAST_PX} px")
                continue
            print(f"{variant} {labels.names[label]:12} scale as sampled, IoU {np.mean(scores):.3f} (worst {min(scores):.3f})")
            record("usd", {"variant": variant, "object": labels.names[label], "iou": float(np.mean(scores))})


if __name__ == "__main__":
    main()
