"""The report's 3D view: meshes and motions packed small enough to live inside a page.

Vertices are 16-bit integers over each mesh's box, colours bytes, indices as narrow as they can be, all in base64. The page
gets the motion at scale 1 and places objects itself: an object of scale s stands at `C(t) + s (p(t) - C(t))`, C being
the filming camera's centre (DESIGN section 2), so every sample, and any other scale, comes from the same data.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import BACKGROUND
from pipelines.formats.placement import place
from pipelines.meshing.mesh import Mesh, decimate
from pipelines.palette_png import palette
from pipelines.reporting.markup import Html, asset, join, tag
from pipelines.scenery import SceneLike


def slimmed(mesh: Mesh, max_faces: int) -> Mesh:
    """At most about `max_faces` triangles; each vertex takes the colour of the nearest one of the full mesh."""
    if len(mesh.faces) <= max_faces:
        return mesh
    from scipy.spatial import cKDTree

    slim = decimate(mesh, max_faces)
    return slim.coloured(mesh.rgb[cKDTree(mesh.vertices).query(slim.vertices)[1]])


def packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def packed_mesh(mesh: Mesh) -> dict[str, Any]:
    """Vertex = low + integer / 65535 * size, per axis."""
    low, high = mesh.vertices.min(0).astype(float), mesh.vertices.max(0).astype(float)
    size = np.maximum(high - low, 1e-9)
    integers = np.round((mesh.vertices - low) / size * 65535).astype(np.uint16)
    wide = len(mesh.vertices) > 65535
    return {
        "low": low.tolist(),
        "size": size.tolist(),
        "positions": packed(integers),
        "colours": packed(mesh.rgb),
        "indices": packed(mesh.faces.astype(np.uint32 if wide else np.uint16)),
        "wide": wide,
    }


def scene_data(
    scene: SceneLike, meshes: Sequence[Mesh], samples: Sequence[tuple[str, Float[np.ndarray, " K"]]], max_faces: Sequence[int]
) -> dict[str, Any]:
    """What the page's script needs; `samples` are named scale combinations to choose from."""
    placement = place(scene, np.ones(len(scene.names)))
    colours = palette()
    objects = [
        {
            "name": name,
            "colour": [int(c) for c in colours[label]],
            "mesh": packed_mesh(slimmed(mesh, faces)) if len(mesh.faces) else None,
            "translation": packed(placement.translation[column].astype(np.float32)),
            "quaternion": packed(placement.quaternion[column].astype(np.float32)),
            "visible": packed((placement.visible[column] | (column == BACKGROUND)).astype(np.uint8)),
        }
        for column, (name, label, mesh, faces) in enumerate(zip(scene.names, scene.object_ids, meshes, max_faces, strict=True))
    ]
    return {
        "fps": scene.fps,
        "frames": scene.n_frames,
        "yfov": float(2 * np.arctan2(scene.height / 2, scene.intrinsics[1, 1])),
        "aspect": float((scene.width / scene.intrinsics[0, 0]) / (scene.height / scene.intrinsics[1, 1])),
        "camera": {
            "translation": packed(placement.camera_translation.astype(np.float32)),
            "quaternion": packed(placement.camera_quaternion.astype(np.float32)),
        },
        "objects": objects,
        "samples": [{"name": name, "scale": [round(float(s), 6) for s in scale]} for name, scale in samples],
    }


def scene_view(data: dict[str, Any]) -> Html:
    """Canvas, controls, data and script."""
    boxes = [
        tag("label", tag("input", type="checkbox", checked="", data_column=column), " ", one["name"])
        for column, one in enumerate(data["objects"])
    ]
    options = [tag("option", one["name"], value=i) for i, one in enumerate(data["samples"])]
    controls = [
        tag("button", "Play", type="button", id="scene-play"),
        tag("input", type="range", id="scene-time", min=0, max=data["frames"] - 1, value=0, aria_label="Frame"),
        tag("output", "0", id="scene-frame", class_="number"),
        tag("label", "Scene ", tag("select", *options, id="scene-sample")),
        tag("button", "Filmed camera", type="button", id="scene-filmed"),
    ]
    # "<" would end the script element early, were it part of a name.
    text = Html(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
    return join(
        [
            tag("canvas", id="scene-canvas", style=f"aspect-ratio: {data['aspect']:.4f}"),
            tag("div", *controls, class_="controls"),
            tag("div", *boxes, class_="controls"),
            tag("p", "Drag to turn, shift-drag to move, scroll to come nearer.", class_="quiet", id="scene-help"),
            tag("script", text, type="application/json", id="scene-data"),
            tag("script", asset("scene3d.js")),
        ]
    )
