"""Compiled loops under the look-ups of `lookup.py`, for a CPU.

A lattice is a row of `lattices`: nodes per axis, rows per step along each axis, last row of a hashed part (-1: dense), first
row. There are always three axes; those that a table lacks have one node and steps of 0. Corners are read and forgotten, never
written to memory, and loops finish one lattice before the next, so that its part of the table stays in the cache.
"""

import numpy as np

from pipelines.compiled import compiled, inlined

CORNERS = 8


@inlined
def _lattice(lattices, level):
    """A row as a tuple, whose numbers stay in registers."""
    nx, ny, nz, sx, sy, sz, last, first = lattices[level]
    return nx, ny, nz, sx, sy, sz, last, first


@inlined
def _along(x, nodes):
    """First node of the cell around x, which is clamped to [-1, 1] (nan: -1), and the share of the way to the next."""
    inside = x if x > np.float32(-1) else np.float32(-1)
    inside = inside if inside < np.float32(1) else np.float32(1)
    position = (inside + np.float32(1)) * np.float32(0.5 * (nodes - 1))
    low = max(min(int(position), nodes - 2), 0)
    return low, position - np.float32(low)


@inlined
def _cell(coordinates, i, lattice):
    """First node and share of the way to the next, along each axis."""
    x, fx = _along(coordinates[i, 0], lattice[0])
    y, fy = _along(coordinates[i, 1], lattice[1])
    z, fz = _along(coordinates[i, 2], lattice[2])
    return x, y, z, fx, fy, fz


@inlined
def _sides(corner):
    """Which of the two nodes along each axis, 0 or 1."""
    return corner >> 2, corner >> 1 & 1, corner & 1


@inlined
def _row(cell, lattice, corner):
    """The row of the table in which a corner of the cell is kept."""
    bx, by, bz = _sides(corner)
    x, y, z = (cell[0] + bx) * lattice[3], (cell[1] + by) * lattice[4], (cell[2] + bz) * lattice[5]
    last, first = lattice[6], lattice[7]
    return first + (((x ^ y ^ z) & last) if last >= 0 else x + y + z)


@inlined
def _factors(cell, corner):
    """Linear weight of a corner along each axis; their product is its weight."""
    bx, by, bz = _sides(corner)
    wx = cell[3] if bx else np.float32(1) - cell[3]
    wy = cell[4] if by else np.float32(1) - cell[4]
    wz = cell[5] if bz else np.float32(1) - cell[5]
    return wx, wy, wz


@compiled
def interpolate(table, coordinates, lattices, out):
    """Add to out[i, level * channels + c] what the table holds around point i in each lattice."""
    channels = table.shape[1]
    for level in range(lattices.shape[0]):
        lattice = _lattice(lattices, level)
        for i in range(coordinates.shape[0]):
            cell = _cell(coordinates, i, lattice)
            for corner in range(CORNERS):
                wx, wy, wz = _factors(cell, corner)
                row, weight = _row(cell, lattice, corner), wx * wy * wz
                for c in range(channels):
                    out[i, level * channels + c] += weight * table[row, c]


@compiled
def scatter(grad, coordinates, lattices, grad_table):
    """Add the gradient of `interpolate`'s result to that of its table."""
    channels = grad_table.shape[1]
    for level in range(lattices.shape[0]):
        lattice = _lattice(lattices, level)
        for i in range(coordinates.shape[0]):
            cell = _cell(coordinates, i, lattice)
            for corner in range(CORNERS):
                wx, wy, wz = _factors(cell, corner)
                row, weight = _row(cell, lattice, corner), wx * wy * wz
                for c in range(channels):
                    grad_table[row, c] += weight * grad[i, level * channels + c]


@compiled
def slope(grad, table, coordinates, lattices, grad_coordinates):
    """Add the gradient of `interpolate`'s result to that of the coordinates; a clamped coordinate has none."""
    channels = table.shape[1]
    for level in range(lattices.shape[0]):
        lattice = _lattice(lattices, level)
        nx, ny, nz = lattice[:3]
        for i in range(coordinates.shape[0]):
            cell = _cell(coordinates, i, lattice)
            for corner in range(CORNERS):
                row = _row(cell, lattice, corner)
                along = np.float32(0)
                for c in range(channels):
                    along += table[row, c] * grad[i, level * channels + c]
                bx, by, bz = _sides(corner)
                wx, wy, wz = _factors(cell, corner)
                grad_coordinates[i, 0] += np.float32(0.5 * (nx - 1) * (2 * bx - 1)) * wy * wz * along
                grad_coordinates[i, 1] += np.float32(0.5 * (ny - 1) * (2 * by - 1)) * wx * wz * along
                grad_coordinates[i, 2] += np.float32(0.5 * (nz - 1) * (2 * bz - 1)) * wx * wy * along
    for i in range(coordinates.shape[0]):
        for axis in range(3):
            if not -1 <= coordinates[i, axis] <= 1:
                grad_coordinates[i, axis] = 0
