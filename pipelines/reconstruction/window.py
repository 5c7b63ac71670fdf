"""First shape and motion of a small object from a window of many frames: weak-perspective factorisation and its mirror twin.

Two views of a small object determine its motion badly; all frames of a window together determine it well. Rays are first turned
so that the object's centroid lies on the optical axis; around it perspective is nearly a scaled orthographic projection.

Symbols
    W (2F x n)      coordinates of n complete tracks in F frames, centred per frame; W = M S with M (2F x 3), S (3 x n)
    Q               metric upgrade: rows a, b of M of one frame satisfy a Q a = b Q b, a Q b = 0
Source: Tomasi & Kanade, "Shape and Motion from Image Streams under Orthography" (IJCV 1992); Poelman & Kanade (TPAMI 1997)
for the weak-perspective constraints. Depth reversal S -> S diag(1, 1, -1) explains W equally well: perspective decides
between the twins.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipelines.geometry import rigid
from pipelines.reconstruction.bundle import Structure
from pipelines.reconstruction.sightings import Sightings

MIN_TRACKS = 8
MIN_FRAMES = 3


@dataclass(frozen=True)
class Window:
    """Frames with many tracks that are seen in all of them."""

    frames: Int[np.ndarray, " F"]
    tracks: Int[np.ndarray, " n"]
    relief_px: float
    """Root mean square of the third component of W, in px: what depth alone contributes to the motion."""
    third_share: float
    """The same over the root mean square of the first component."""


def _turn_to_axis(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes a direction to the optical axis."""
    d = direction / np.linalg.norm(direction)
    x, y, z = d
    return np.array([[1 - x * x / (1 + z), -x * y / (1 + z), -x], [-x * y / (1 + z), 1 - y * y / (1 + z), -y], [x, y, z]])


def _centred(sightings: Sightings, window: Window, focal_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (2F, n) in units of the focal length, the means (F, 2), and the turns (F, 3, 3) of the cameras."""
    xy = sightings.xy_px[np.ix_(window.frames, window.tracks)] / focal_px
    rays = np.concatenate([xy, np.ones((*xy.shape[:2], 1))], -1)
    turns = np.stack([_turn_to_axis(frame.mean(0)) for frame in rays])
    turned = np.einsum("fij,fnj->fni", turns, rays)
    flat = turned[..., :2] / turned[..., 2:]
    means = flat.mean(1)
    return np.swapaxes(flat - means[:, None], 1, 2).reshape(-1, xy.shape[1]), means, turns


def candidate_windows(sightings: Sightings, focal_px: float, *, count: int, max_frames: int = 16) -> list[Window]:
    """Windows ranked by relief and support, of several lengths and positions, the best of each length class first."""
    n_frames, seen = sightings.n_frames, sightings.seen
    found: list[tuple[float, Window]] = []
    length = n_frames
    while length >= MIN_FRAMES:
        for start in sorted({int(s) for s in np.linspace(0, n_frames - length, 9)}):
            frames = np.unique(np.linspace(start, start + length - 1, min(length, max_frames)).round().astype(int))
            tracks = np.flatnonzero(seen[frames].all(0))
            if len(tracks) < MIN_TRACKS:
                continue
            window = Window(frames, tracks[:: -(-len(tracks) // 400)], 0.0, 0.0)
            W, _, _ = _centred(sightings, window, focal_px)
            first, _, third = np.linalg.svd(W, compute_uv=False)[:3]
            relief_px = float(third / np.sqrt(W.size / 2) * focal_px)
            support = min(1.0, len(tracks) / 40)
            found.append((relief_px * support, Window(frames, window.tracks, relief_px, float(third / max(first, 1e-12)))))
        length = int(length / 1.5) if length > 4 else length - 1
    found.sort(key=lambda item: -item[0])
    chosen: list[Window] = []
    for _, window in found:
        if all(len(np.intersect1d(window.frames, other.frames)) < 0.6 * len(window.frames) for other in chosen):
            chosen.append(window)
        if len(chosen) == count:
            break
    return chosen


def _metric_upgrade(M: Float[np.ndarray, "F2 3"]) -> Float[np.ndarray, "3 3"]:
    """B with Q = B B^T from the constraints of all frames; Q's eigenvalues are kept above 1e-3 of the largest."""

    def row(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                a[:, 0] * b[:, 0],
                a[:, 0] * b[:, 1] + a[:, 1] * b[:, 0],
                a[:, 0] * b[:, 2] + a[:, 2] * b[:, 0],
                a[:, 1] * b[:, 1],
                a[:, 1] * b[:, 2] + a[:, 2] * b[:, 1],
                a[:, 2] * b[:, 2],
            ],
            -1,
        )

    a, b = M[0::2], M[1::2]
    equal, orthogonal, size = row(a, a) - row(b, b), row(a, b), row(a, a) + row(b, b)
    # The size of the first rows fixes the free factor of the homogeneous system.
    system = np.concatenate([equal, 2 * orthogonal, size.mean(0, keepdims=True)])
    right = np.zeros(len(system))
    right[-1] = 2.0
    q = np.linalg.lstsq(system, right, rcond=None)[0]
    Q = np.array([[q[0], q[1], q[2]], [q[1], q[3], q[4]], [q[2], q[4], q[5]]])
    values, vectors = np.linalg.eigh(Q)
    values = np.maximum(values, 1e-3 * max(float(values[-1]), 1e-12))
    return vectors * np.sqrt(values)


def factorise(sightings: Sightings, window: Window, focal_px: float) -> list[Structure]:
    """The two weak-perspective reconstructions (a shape and its mirror twin) of a window.

    Frames outside the window keep the identity, tracks outside it the origin. Depths are scaled to a median near 1.
    """
    W, means, turns = _centred(sightings, window, focal_px)
    U, values, Vt = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(values[:3])
    M, S = U[:, :3] * root, root[:, None] * Vt[:3]
    B = _metric_upgrade(M)
    M, S = M @ B, np.linalg.solve(B, S)
    scale = np.sqrt((np.sum(M[0::2] ** 2, -1) + np.sum(M[1::2] ** 2, -1)) / 2)
    unit = float(np.median(scale))
    M, S, depth = M / unit, S * unit, unit / scale
    structures = []
    for sign in (1.0, -1.0):
        flip = np.diag([1.0, 1.0, sign])
        # In the first frame's axes the twins differ by the sign of depth.
        first = _rotation(M[0], M[1])
        m, s = M @ first.T @ flip, flip @ first @ S
        rotations = np.stack([_rotation(m[2 * i], m[2 * i + 1]) for i in range(len(window.frames))])
        tau = depth[:, None] * np.concatenate([means, np.ones((len(means), 1))], -1)
        poses = np.tile(np.eye(4), (sightings.n_frames, 1, 1))
        poses[window.frames] = rigid(np.swapaxes(turns, 1, 2) @ rotations, np.einsum("fji,fj->fi", turns, tau))
        points = np.zeros((sightings.n_tracks, 3))
        points[window.tracks] = s.T
        structures.append(Structure(poses, points, focal_px))
    return structures


def _rotation(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation whose first two rows are nearest to the directions of a and b."""
    a, b = a / max(np.linalg.norm(a), 1e-12), b / max(np.linalg.norm(b), 1e-12)
    u, _, vt = np.linalg.svd(np.stack([a, b, np.cross(a, b)]))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
