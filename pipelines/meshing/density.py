"""A closed surface from the density of an object's field (marching cubes, Lorensen and Cline, SIGGRAPH 1987)."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipelines.meshing.fusion import Grid
from pipelines.meshing.mesh import Mesh
from pipelines.scenery import FieldLike

QUERY_POINTS = 1 << 17


def density_on(field: FieldLike, points: Float[np.ndarray, "N 3"], device: Any) -> Float[np.ndarray, " N"]:
    """Density at points of the object's frame, per own unit, queried in chunks."""
    import torch

    found = []
    with torch.no_grad():
        for start in range(0, len(points), QUERY_POINTS):
            chunk = torch.as_tensor(points[start : start + QUERY_POINTS], dtype=torch.float32, device=device)
            ahead = torch.zeros_like(chunk)
            ahead[:, 2] = 1.0
            found.append(field.query(chunk, ahead)[0].float().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def density_surface(
    field: FieldLike, grid: Grid, allowed: Bool[np.ndarray, "X Y Z"], *, half_opaque_cells: float, device: Any
) -> Mesh:
    """Surface of one object within the allowed nodes, closed.

    The level is where a layer `half_opaque_cells` cells thick lets half the light through:
    1 - exp(-sigma · thickness) = 1/2, so it follows the cell size and the object's unit. Hollow insides are filled first.
    """
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import marching_cubes

    index = np.argwhere(allowed)
    density = np.zeros(grid.shape, np.float32)
    density[allowed] = density_on(field, grid.at(index.astype(float)), device)
    thickness = half_opaque_cells * float(grid.spacing()[0][0])
    level = np.log(2.0) / thickness
    # Opacity rather than density varies evenly across a steep edge, so marching cubes places the surface better.
    opacity = 1.0 - np.exp(-density * thickness)
    solid = density > level
    opacity[binary_fill_holes(solid) & ~solid] = 1.0
    opacity = np.pad(opacity, 1)
    if opacity.max() <= 0.5:
        return Mesh.empty()
    vertices, faces, _, _ = marching_cubes(opacity, 0.5, gradient_direction="ascent")
    return Mesh.build(grid.at(vertices - 1.0), faces)
