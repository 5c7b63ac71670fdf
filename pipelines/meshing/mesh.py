"""A coloured triangle mesh, and what is done to one regardless of where it came from.

Vertices are in the object's own frame and unit. Faces are counter-clockwise seen from outside.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import read_arrays


@dataclass(frozen=True)
class Mesh:
    """V vertices, F triangles; normals have unit length; colours are sRGB."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"]
    rgb: UInt8[np.ndarray, "V 3"]

    @classmethod
    def build(cls, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> "Mesh":
        """Mesh with normals from its triangles, grey."""
        kept, faces = _without_degenerate(vertices, faces)
        vertices = vertices[kept].astype(np.float32)
        return cls(vertices, faces, vertex_normals(vertices, faces), np.full(vertices.shape, 128, np.uint8))

    @classmethod
    def empty(cls) -> "Mesh":
        return cls.build(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))

    @classmethod
    def load(cls, folder: Path) -> "Mesh":
        return cls(**read_arrays(folder / "mesh.npz"))

    def save(self, folder: Path) -> None:
        np.savez(folder / "mesh.npz", vertices=self.vertices, faces=self.faces, normals=self.normals, rgb=self.rgb)

    def coloured(self, rgb: UInt8[np.ndarray, "V 3"]) -> "Mesh":
        return replace(self, rgb=rgb)

    def scaled(self, size: float) -> "Mesh":
        """In another unit."""
        return replace(self, vertices=(self.vertices * size).astype(np.float32))

    def keep_vertices(self, keep: Bool[np.ndarray, " V"]) -> "Mesh":
        """The triangles whose three vertices are kept."""
        faces = self.faces[keep[self.faces].all(1)]
        used = np.zeros(len(self.vertices), bool)
        used[faces] = True
        renumbered = np.cumsum(used) - 1
        return Mesh(self.vertices[used], renumbered[faces].astype(np.int32), self.normals[used], self.rgb[used])


def _without_degenerate(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices are used by a triangle of non-zero area (in float32), and those triangles renumbered."""
    corners = vertices.astype(np.float32)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    faces = faces[area > 0]
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    return used, (np.cumsum(used) - 1)[faces].astype(np.int32)


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Area-weighted unit normals."""
    corners = vertices[faces].astype(float)
    per_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(per_face, axis=-1).max(initial=0.0) or 1.0
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], per_face / size)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [0.0, 0.0, 1.0]).astype(np.float32)


def linear_rgb(rgb: UInt8[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """sRGB bytes to linear light in [0, 1] (IEC 61966-2-1), which glTF and USD want at vertices."""
    srgb = rgb / 255.0
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def component_of_vertex(mesh: Mesh) -> Int[np.ndarray, " V"]:
    """Connected component of each vertex, numbered from 0."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    n = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def without_small_components(mesh: Mesh, min_share: float) -> Mesh:
    """Drop connected parts whose area is below a share of the largest part's."""
    if len(mesh.faces) == 0:
        return mesh
    component = component_of_vertex(mesh)
    corners = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    per_component = np.bincount(component[mesh.faces[:, 0]], weights=area)
    return mesh.keep_vertices((per_component >= min_share * per_component.max())[component])


def decimate(mesh: Mesh, max_faces: int) -> Mesh:
    """At most about `max_faces` triangles by quadric edge collapse (colours are lost: colour afterwards)."""
    if len(mesh.faces) <= max_faces:
        return mesh
    import fast_simplification

    vertices, faces = fast_simplification.simplify(
        np.ascontiguousarray(mesh.vertices, np.float32),
        np.ascontiguousarray(mesh.faces, np.int32),
        target_count=max_faces,
    )
    return Mesh.build(vertices, faces)


def smooth(mesh: Mesh, rounds: int, *, shrink: float = 0.5, swell: float = -0.53) -> Mesh:
    """Taubin smoothing: takes the steps of the voxel grid away without shrinking the object."""
    if rounds == 0 or len(mesh.faces) == 0:
        return mesh
    from scipy.sparse import coo_matrix

    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    n = len(mesh.vertices)
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(n, n)).tocsr()
    adjacency.data[:] = 1.0
    degree = np.maximum(np.asarray(adjacency.sum(1)), 1.0)
    vertices = mesh.vertices.astype(float)
    for _ in range(rounds):
        for step in (shrink, swell):
            vertices = vertices + step * (adjacency @ vertices / degree - vertices)
    return Mesh.build(vertices, mesh.faces)
