"""glTF 2.0 (binary, .glb): the scene as animated nodes, the filming camera as an animated camera node.

Axes and units come converted from `pipelines.formats.placement`. An object's node carries its scale s_k (times the
unit), its rotation and its translation at each frame; the mesh below it stays in the object's own unit, so the same
buffers serve every sample. An object that did not register at a frame has node scale 0 there (STEP), which the
specification gives as the way to animate visibility (section "Transformations"). Vertex colours are linear (section
"Meshes": COLOR_0 is a linear multiplier), as 16-bit integers. The colours are what the camera saw, light included, so
materials are unlit (KHR_materials_unlit) unless asked otherwise.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.formats.placement import Placement
from pipelines.meshing.mesh import Mesh, linear_rgb

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
NAMES = {(1,): "SCALAR", (3,): "VEC3", (4,): "VEC4"}
GLB_MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


@dataclass(frozen=True)
class PinholeCamera:
    """A glTF perspective camera has no principal point: an off-centre one is lost in this format."""

    yfov_rad: float
    aspect: float
    near: float
    far: float

    @classmethod
    def from_intrinsics(
        cls, intrinsics: Float[np.ndarray, "3 3"], width: int, height: int, near: float, far: float
    ) -> "PinholeCamera":
        yfov = 2 * np.arctan2(height / 2, intrinsics[1, 1])
        aspect = (width / intrinsics[0, 0]) / (height / intrinsics[1, 1])
        return cls(float(yfov), float(aspect), near, far)

    def document(self) -> dict[str, Any]:
        perspective = {"yfov": self.yfov_rad, "aspectRatio": self.aspect, "znear": self.near, "zfar": self.far}
        return {"type": "perspective", "name": "filmed", "perspective": perspective}


@dataclass
class _Buffer:
    """The binary part and the views and accessors into it."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)

    def copy(self) -> "_Buffer":
        """To append to without changing the original; the bytes are shared."""
        return _Buffer(list(self.parts), self.size, list(self.views), list(self.accessors))

    def add(self, values: np.ndarray, *, target: int | None = None, bounds: bool = False, normalized: bool = False) -> int:
        """Append an array; returns its accessor's index."""
        values = np.ascontiguousarray(values)
        kind = {"f": FLOAT, "u2": UNSIGNED_SHORT, "u4": UNSIGNED_INT}
        component = kind["f" if values.dtype == np.float32 else f"u{values.dtype.itemsize}"]
        data = values.tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self.size, "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        padded = data + b"\0" * (-len(data) % 4)
        self.parts.append(padded)
        self.size += len(padded)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": component,
            "count": len(values),
            "type": NAMES[values.shape[1:] or (1,)],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            columns = values.reshape(len(values), -1)
            accessor |= {"min": columns.min(0).tolist(), "max": columns.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def linear_rgba16(rgb: UInt8[np.ndarray, "V 3"]) -> np.ndarray:
    """sRGB bytes to linear 16-bit RGBA, opaque."""
    rgba = np.concatenate([linear_rgb(rgb), np.ones((len(rgb), 1))], -1)
    return np.round(rgba * 65535).astype(np.uint16)


def _primitive(buffer: _Buffer, mesh: Mesh) -> dict[str, Any]:
    narrow = len(mesh.vertices) < 65535
    attributes = {
        "POSITION": buffer.add(mesh.vertices.astype(np.float32), target=ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(mesh.normals.astype(np.float32), target=ARRAY_BUFFER),
        "COLOR_0": buffer.add(linear_rgba16(mesh.rgb), target=ARRAY_BUFFER, normalized=True),
    }
    indices = mesh.faces.ravel().astype(np.uint16 if narrow else np.uint32)
    return {"attributes": attributes, "indices": buffer.add(indices, target=ELEMENT_ARRAY_BUFFER), "material": 0}


def _animation(buffer: _Buffer, placement: Placement, node_of_column: dict[int, int], camera_node: int) -> dict[str, Any]:
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []
    times = buffer.add(placement.times_s.astype(np.float32), bounds=True)

    def animate(node: int, path: str, values: np.ndarray, interpolation: str = "LINEAR") -> None:
        output = buffer.add(values.astype(np.float32))
        samplers.append({"input": times, "output": output, "interpolation": interpolation})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    animate(camera_node, "translation", placement.camera_translation)
    animate(camera_node, "rotation", placement.camera_quaternion)
    for column, node in node_of_column.items():
        visible = placement.visible[column]
        if column > 0:
            animate(node, "translation", placement.translation[column])
            animate(node, "rotation", placement.quaternion[column])
        if column > 0 and not visible.all():
            scale = np.where(visible, placement.scale[column], 0.0)
            animate(node, "scale", np.repeat(scale[:, None], 3, 1), "STEP")
    return {"name": "clip", "samplers": samplers, "channels": channels}


def _object_node(name: str, placement: Placement, column: int, *, mesh: int) -> dict[str, Any]:
    """At rest, an object stands where it first appears."""
    first = int(np.argmax(placement.visible[column]))
    place = placement.translation[column, first], placement.quaternion[column, first]
    return _node(name, *place, scale=[float(placement.scale[column])] * 3, mesh=mesh)


def _node(name: str, translation: np.ndarray, quaternion: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"name": name, "translation": translation.tolist(), "rotation": quaternion.tolist(), **more}


@dataclass(frozen=True)
class SceneAsset:
    """What all samples of a scene share: meshes, as packed buffers. Objects with an empty mesh have no node."""

    names: tuple[str, ...]
    buffer: _Buffer
    primitives: dict[int, dict[str, Any]]
    """Per column."""
    unlit: bool

    @classmethod
    def build(cls, meshes: Sequence[Mesh], names: Sequence[str], *, unlit: bool = True) -> "SceneAsset":
        buffer = _Buffer()
        primitives = {column: _primitive(buffer, mesh) for column, mesh in enumerate(meshes) if len(mesh.faces) > 0}
        return cls(tuple(names), buffer, primitives, unlit)

    def glb(self, placement: Placement, camera: PinholeCamera, *, extras: dict[str, Any] | None = None) -> bytes:
        """One sampled scene over the whole clip."""
        buffer = self.buffer.copy()
        nodes: list[dict[str, Any]] = []
        parts: list[dict[str, Any]] = []
        node_of_column: dict[int, int] = {}
        for column, primitive in self.primitives.items():
            node_of_column[column] = len(nodes)
            parts.append({"name": self.names[column], "primitives": [primitive]})
            nodes.append(_object_node(self.names[column], placement, column, mesh=len(parts) - 1))
        nodes.append(_node("filmed camera", placement.camera_translation[0], placement.camera_quaternion[0], camera=0))
        document: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "osn", "extras": extras or {}},
            "scene": 0,
            "scenes": [{"name": "scene", "nodes": list(range(len(nodes)))}],
            "nodes": nodes,
            "cameras": [camera.document()],
        }
        if parts:
            document |= {"meshes": parts, "materials": [_material(self.unlit)]}
        if len(placement.times_s) > 1:
            document["animations"] = [_animation(buffer, placement, node_of_column, len(nodes) - 1)]
        return _packed(document, buffer)


def mesh_glb(mesh: Mesh, name: str, *, unlit: bool = True) -> bytes:
    """One mesh by itself, turned from OpenCV's to glTF's axes by its node (y up, z towards the viewer)."""
    buffer = _Buffer()
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "osn"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "rotation": [1.0, 0.0, 0.0, 0.0], "mesh": 0}],
        "meshes": [{"name": name, "primitives": [_primitive(buffer, mesh)]}],
        "materials": [_material(unlit)],
    }
    return _packed(document, buffer)


def _material(unlit: bool) -> dict[str, Any]:
    material: dict[str, Any] = {
        "name": "vertex colours",
        "doubleSided": True,
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
    }
    return material | ({"extensions": {"KHR_materials_unlit": {}}} if unlit else {})


def _packed(document: dict[str, Any], buffer: _Buffer) -> bytes:
    """Header, JSON chunk padded with spaces, binary chunk padded with zeros (specification, "GLB File Format")."""
    if any("extensions" in material for material in document.get("materials", [])):
        document["extensionsUsed"] = ["KHR_materials_unlit"]
    binary = b"".join(buffer.parts)
    if binary:
        document |= {"buffers": [{"byteLength": len(binary)}], "bufferViews": buffer.views, "accessors": buffer.accessors}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
    if binary:
        chunks += struct.pack("<II", len(binary), BINARY_CHUNK) + binary
    return struct.pack("<III", GLB_MAGIC, 2, 12 + len(chunks)) + chunks


def read_glb(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The JSON document and every accessor's values, for files written by this module."""
    data = path.read_bytes()
    text_size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + text_size])
    binary = data[28 + text_size :]
    types = {FLOAT: np.float32, UNSIGNED_SHORT: np.uint16, UNSIGNED_INT: np.uint32}
    width = {name: shape[0] for shape, name in NAMES.items()}
    values = []
    for accessor in document.get("accessors", []):
        offset = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        n = accessor["count"] * width[accessor["type"]]
        flat = np.frombuffer(binary, types[accessor["componentType"]], n, offset)
        values.append(flat.reshape(accessor["count"], -1))
    return document, values
