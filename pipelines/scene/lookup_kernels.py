"""Compiled loops under the look-ups of `lookup.py`, for a CPU.

A lattice is a row of `lattices`: nodes per axis, rows per step along each axis, last row of a hashed part (-1: dense), first
row. There are always three axes; those that a table lacks have one node and steps of 0. Corners are read and forgotten, never
written to memory, and loops finish one lattice before the next, so that its part of the table stays in the cache.
"""

import numpy as np

from pipelines.scene.compiled import compiled, inlined


@inlined
def _place(x, nodes):
    """First node of the cell around x, which is clamped to [-1, 1] (nan: -1), and the share of the way to the next."""
    inside = x if x > np.float32(-1) else np.float32(-1)
    inside = inside if inside < np.float32(1) else np.float32(1)
    position = (inside + np.float32(1)) * np.float32(0.5 * (nodes - 1))
    low = max(min(int(position), nodes - 2), 0)
    return low, position - np.float32(low)


@inlined
def _row(x, y, z, last, first):
    return first + (((x ^ y ^ z) & last) if last >= 0 else x + y + z)


@inlined
def _side(share, bit):
    return share if bit else np.float32(1) - share


@compiled
def interpolate(table, coordinates, lattices, out):
    """Add to out[i, level * channels + c] what the table holds around point i in each lattice."""
    channels = table.shape[1]
    for level in range(lattices.shape[0]):
        nx, ny, nz, sx, sy, sz, last, first = lattices[level]
        for i in range(coordinates.shape[0]):
            x, fx = _place(coordinates[i, 0], nx)
            y, fy = _place(coordinates[i, 1], ny)
            z, fz = _place(coordinates[i, 2], nz)
            for corner in range(8):
                bx, by, bz = corner >> 2, corner >> 1 & 1, corner & 1
                weight = _side(fx, bx) * _side(fy, by) * _side(fz, bz)
                row = _row((x + bx) * sx, (y + by) * sy, (z + bz) * sz, last, first)
                for c in range(channels):
                    out[i, level * channels + c] += weight * table[row, c]


@compiled
def scatter(grad, coordinates, lattices, grad_table):
    """Add the gradient of `interpolate`'s result to that of its table."""
    channels = grad_table.shape[1]
    for level in range(lattices.shape[0]):
        nx, ny, nz, sx, sy, sz, last, first = lattices[level]
        for i in range(coordinates.shape[0]):
            x, fx = _place(coordinates[i, 0], nx)
            y, fy = _place(coordinates[i, 1], ny)
            z, fz = _place(coordinates[i, 2], nz)
            for corner in range(8):
                bx, by, bz = corner >> 2, corner >> 1 & 1, corner & 1
                weight = _side(fx, bx) * _side(fy, by) * _side(fz, bz)
                row = _row((x + bx) * sx, (y + by) * sy, (z + bz) * sz, last, first)
                for c in range(channels):
                    grad_table[row, c] += weight * grad[i, level * channels + c]


@compiled
def slope(grad, table, coordinates, lattices, grad_coordinates):
    """Add the gradient of `interpolate`'s result to that of the coordinates; a clamped coordinate has none."""
    channels = table.shape[1]
    for level in range(lattices.shape[0]):
        nx, ny, nz, sx, sy, sz, last, first = lattices[level]
        for i in range(coordinates.shape[0]):
            x, fx = _place(coordinates[i, 0], nx)
            y, fy = _place(coordinates[i, 1], ny)
            z, fz = _place(coordinates[i, 2], nz)
            for corner in range(8):
                bx, by, bz = corner >> 2, corner >> 1 & 1, corner & 1
                row = _row((x + bx) * sx, (y + by) * sy, (z + bz) * sz, last, first)
                along = np.float32(0)
                for c in range(channels):
                    along += table[row, c] * grad[i, level * channels + c]
                wx, wy, wz = _side(fx, bx), _side(fy, by), _side(fz, bz)
                grad_coordinates[i, 0] += np.float32(0.5 * (nx - 1) * (2 * bx - 1)) * wy * wz * along
                grad_coordinates[i, 1] += np.float32(0.5 * (ny - 1) * (2 * by - 1)) * wx * wz * along
                grad_coordinates[i, 2] += np.float32(0.5 * (nz - 1) * (2 * bz - 1)) * wx * wy * along
    for i in range(coordinates.shape[0]):
        for axis in range(3):
            if not -1 <= coordinates[i, axis] <= 1:
                grad_coordinates[i, axis] = 0
