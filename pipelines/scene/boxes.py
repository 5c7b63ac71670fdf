"""Where each object can be, in its own frame, from its sparse points, its mask and its poses."""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from pipelines.artifacts import ObjectModel
from pipelines.geometry import invert, ray_directions, transform
from pipelines.scene.contraction import Box

MARGIN = 0.15
"""Share by which a box exceeds the points that it holds."""
MIN_ASPECT = 0.4
"""No side of a mover's box is shorter than this share of its longest: points often cover one face only."""
MAX_MISSED = 0.003
"""Share of an object's mask pixels whose rays may miss its box."""


def background_box(model: ObjectModel) -> Box:
    """Near box around the cameras and some of the points, contracted space outside: the division of the grid that shows best.

    A box around everything resolves a room well, but a yard with far houses badly: a pixel near the camera covers less than
    one far away. Of several boxes and shares of the grid for them, the one is taken under which the observed points' nodes are
    smallest relative to their depth, on average.
    """
    centres = invert(model.cam_from_obj[model.registered])[:, :3, 3]
    seen = model.registered[model.obs_frame]
    frames, points = model.obs_frame[seen], model.points[model.obs_point[seen]]
    step = max(1, len(points) // MAX_JUDGED)
    frames, points = frames[::step], points[::step]
    depth = transform(model.cam_from_obj[frames], points[:, None])[:, 0, 2]
    observed, distance = torch.as_tensor(points[depth > 0], dtype=torch.float32), torch.as_tensor(depth[depth > 0])
    best, least = None, np.inf
    for held in HELD_SHARES:
        low, high = np.quantile(model.points, [(1 - held) / 2, (1 + held) / 2], axis=0)
        low, high = np.minimum(low, centres.min(0)), np.maximum(high, centres.max(0))
        for share in BOX_SHARES:
            box = _box(low, high, share)
            coarse = float((node_size(box, observed) / distance).mean())
            if coarse < least:
                best, least = box, coarse
    assert best is not None
    return best


HELD_SHARES = (0.5, 0.7, 0.85, 0.98)
"""Shares of the points (per axis) that a near box may hold."""
BOX_SHARES = (0.5, 0.65, 0.75, 0.85)
"""Shares of the grid (per axis) that the near box may take."""
MAX_JUDGED = 5000


def node_size(box: Box, points: Float[torch.Tensor, "n 3"]) -> Float[torch.Tensor, " n"]:
    """Distance in the object's unit that a step of one in grid coordinates covers: the cube root of the volume's change."""
    wanted = points.clone().requires_grad_()
    g = box.grid_from_obj(wanted)
    rows = [torch.autograd.grad(g[:, axis].sum(), wanted, retain_graph=axis < 2)[0] for axis in range(3)]
    return torch.linalg.det(torch.stack(rows, 1)).abs().clamp_min(1e-30) ** (-1 / 3)


def mover_box(
    model: ObjectModel,
    seen: UInt8[np.ndarray, "T h w"],
    column: int,
    intrinsics: Float[np.ndarray, "3 3"],
) -> Box:
    """Box around a mover's points, grown until its mask pixels' rays cross it.

    seen: scene columns at a working size; intrinsics: at that size.
    """
    low, high = _robust_extent(model.points)
    box = _box(low, high, 1.0)
    origins, directions = _mask_rays(model, seen, column, intrinsics)
    for _ in range(12):
        enters, leaves = box.crossing(origins, directions)
        if int((leaves <= enters).sum()) <= MAX_MISSED * len(origins):
            break
        box = Box(box.centre, box.half_extent * 1.08)
    return box


def _robust_extent(points: Float[np.ndarray, "M 3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Corners of the box of all but the outermost points per axis."""
    low, high = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
    return low, high


def _box(low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], share: float) -> Box:
    half = (high - low) * (0.5 + MARGIN)
    half = np.maximum(half, MIN_ASPECT * half.max())
    return Box(torch.as_tensor((low + high) / 2, dtype=torch.float32), torch.as_tensor(half, dtype=torch.float32), share)


def _mask_rays(
    model: ObjectModel, seen: UInt8[np.ndarray, "T h w"], column: int, intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays of (at most 200,000, evenly chosen) mask pixels in the object's own frame."""
    t, y, x = np.nonzero(seen == column)
    step = max(1, len(t) // 200_000)
    t, y, x = t[::step], y[::step], x[::step]
    directions_cam = ray_directions(intrinsics, np.stack([x, y], -1) + 0.5)
    obj_from_cam = invert(model.cam_from_obj)[t]
    directions = np.einsum("nij,nj->ni", obj_from_cam[:, :3, :3], directions_cam)
    return torch.as_tensor(obj_from_cam[:, :3, 3], dtype=torch.float32), torch.as_tensor(directions, dtype=torch.float32)


def nearest_depth(model: ObjectModel) -> float:
    """z-depth (own unit) nearer than which the object surely is not: a third of its nearest points' over all frames."""
    return float(np.quantile(_observed_depths(model), 0.005) / 3)


def log_scale_range(models: list[ObjectModel], near_share: float, far_share: float) -> Float[np.ndarray, "K 2"]:
    """Near and far limit of each object's log scale.

    At the near limit the object stands at `near_share` of the background's median depth, at the far limit at `far_share` of
    the background's largest. The background itself is fixed to 0.
    """
    behind = _observed_depths(models[0])
    near, far = near_share * np.median(behind), far_share * np.quantile(behind, 0.99)
    ranges = [(0.0, 0.0)]
    for model in models[1:]:
        own = _observed_depths(model)
        ranges.append((float(np.log(near / np.median(own))), float(np.log(far / np.quantile(own, 0.05)))))
    return np.array(ranges)


def _observed_depths(model: ObjectModel) -> Float[np.ndarray, " N"]:
    """z-depth of every observed point in front of its camera."""
    seen: Bool[np.ndarray, " N"] = model.registered[model.obs_frame]
    frames, points = model.obs_frame[seen], model.points[model.obs_point[seen]]
    depth = transform(model.cam_from_obj[frames], points[:, None])[:, 0, 2]
    return depth[depth > 0]
