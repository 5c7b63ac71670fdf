"""Mesh files for other programs: PLY and OBJ with vertex colours and normals, GLB for one mesh by itself."""

from enum import StrEnum
from pathlib import Path
from typing import assert_never

import numpy as np
from jaxtyping import Float, UInt8

from pipelines.formats.gltf import mesh_glb
from pipelines.meshing.mesh import Mesh


class MeshFormat(StrEnum):
    PLY = "ply"
    OBJ = "obj"
    GLB = "glb"


def write_mesh(path: Path, mesh: Mesh, mesh_format: MeshFormat, *, unlit: bool = True) -> None:
    """One mesh with normals and colours. PLY and OBJ keep the object's own frame; GLB is turned to glTF's axes."""
    match mesh_format:
        case MeshFormat.PLY | MeshFormat.OBJ:
            import trimesh

            content = trimesh.Trimesh(
                mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=mesh.rgb, process=False
            )
            more = {"vertex_normal": True} if mesh_format is MeshFormat.PLY else {"include_normals": True}
            content.export(path, **more)
        case MeshFormat.GLB:
            path.write_bytes(mesh_glb(mesh, path.stem, unlit=unlit))
        case unknown:
            assert_never(unknown)


def write_points(path: Path, points: Float[np.ndarray, "M 3"], rgb: UInt8[np.ndarray, "M 3"]) -> None:
    """A coloured point cloud as binary PLY."""
    columns = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.zeros(len(points), columns)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = rgb[:, channel]
    kinds = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {kinds[kind]} {name}\n" for name, kind in columns)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    path.write_bytes(header.encode() + rows.tobytes())
