"""Frames that tracks did not reach: found again by looking for the model's own patches where its motion should have put them.

When something passes in front of an object, the parts seen before and after may have nothing in common with the frames between,
and flow is unreliable exactly there. The reconstruction knows shape and motion: the pose is extrapolated, patches from the
nearest frames are warped by the local surface into the frame, shifted together to where they match best, aligned one by one,
and the pose is accepted when enough of them agree.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.artifacts import Labels, Video
from pipelines.geometry import rigid, transform
from pipelines.reconstruction.bundle import Structure
from pipelines.reconstruction.grow import Grown, GrowOptions
from pipelines.reconstruction.sightings import Sightings, pose_uncertainty_deg, refine_pose
from pipelines.tracking.follow import label_at
from pipelines.tracking.patches import (
    MAX_SHIFT_PX,
    MIN_CORRELATION,
    PATCH_RADIUS_PX,
    Templates,
    align,
    make_templates,
    sample,
    smoothed_brightness,
)

SEARCH_PX = 6
"""All patches are shifted together by up to this much to find the object."""
RELINK_SEARCH_PX = 3
MAX_GAP_FRAMES = 4
"""A pose is extrapolated over at most this many frames."""
MIN_VISIBLE_PX = 40
NEIGHBOURS = 12
CORRELATED_PATCHES = 25.0
"""Overlapping patches that carry the information of one."""
MAX_UNCERTAINTY_DEG = 2.0
"""A frame whose rotation its few points leave more uncertain stays unregistered."""


@dataclass(frozen=True)
class Views:
    """Pictures and masks of one object."""

    video: Video
    labels: Labels
    object_id: int
    principal_px: Float[np.ndarray, "2"]

    def image(self, t: int) -> np.ndarray:
        return smoothed_brightness(self.video.frame(t))

    def mask(self, t: int) -> Bool[np.ndarray, "H W"]:
        return self.labels.maps[t] == self.object_id


def complete(sightings: Sightings, grown: Grown, views: Views, options: GrowOptions) -> tuple[Sightings, Grown]:
    """Register what frames can be had beyond those of the tracks, outward from the registered ones.

    Returns the sightings with what was found added, and the reconstruction with the new poses (not yet adjusted together).
    """
    table, registered = sightings.xy_px.copy(), grown.registered.copy()
    structure = replace(grown.structure, cam_from_obj=grown.structure.cam_from_obj.copy())
    normals = surface_normals(structure.points, grown.placed)
    for direction in (-1, 1):
        frames = range(sightings.n_frames) if direction == 1 else range(sightings.n_frames - 1, -1, -1)
        for t in frames:
            if registered[t] or views.mask(t).sum() < MIN_VISIBLE_PX:
                continue
            known = [t - direction * step for step in range(1, MAX_GAP_FRAMES + 1)]
            known = [u for u in known if 0 <= u < sightings.n_frames and registered[u]]
            if not known:
                continue
            start = extrapolated(structure.cam_from_obj, registered, t, known[0], direction)
            found = _find(table, structure, grown.placed, normals, views, t, start, SEARCH_PX, options)
            if found is not None and found[3] < MAX_UNCERTAINTY_DEG:
                pose, index, xy_px, _ = found
                structure.cam_from_obj[t] = pose
                registered[t] = True
                table[t, index] = xy_px
    return Sightings(table), replace(grown, structure=structure, registered=registered)


def relink(sightings: Sightings, grown: Grown, views: Views, frames: Bool[np.ndarray, " T"], options: GrowOptions) -> Sightings:
    """Add sightings, in frames whose poses are roughly known, of points that were tracked elsewhere: ties to the rest."""
    table = sightings.xy_px.copy()
    normals = surface_normals(grown.structure.points, grown.placed)
    elsewhere = np.isfinite(table[~frames, :, 0]).any(0) & grown.placed
    for t in np.flatnonzero(frames).tolist():
        absent = elsewhere & ~np.isfinite(table[t, :, 0])
        source = np.where(frames[:, None, None], np.nan, table)
        start = grown.structure.cam_from_obj[t]
        found = _find(source, grown.structure, absent, normals, views, t, start, RELINK_SEARCH_PX, options)
        if found is not None:
            _, index, xy_px, _ = found
            table[t, index] = xy_px
    return Sightings(table)


def extrapolated(
    cam_from_obj: Float[np.ndarray, "T 4 4"], registered: Bool[np.ndarray, " T"], t: int, nearest: int, direction: int
) -> Float[np.ndarray, "4 4"]:
    """Pose at t of a motion that goes on as it was around `nearest`, the last registered frame when walking in `direction`."""
    from scipy.spatial.transform import Rotation

    steps = [nearest - direction * n for n in (3, 2, 1)]
    older = next((u for u in steps if 0 <= u < len(registered) and registered[u]), None)
    if older is None:
        return cam_from_obj[nearest].copy()
    ratio = (t - nearest) / (nearest - older)
    turn = Rotation.from_matrix(cam_from_obj[nearest, :3, :3] @ cam_from_obj[older, :3, :3].T).as_rotvec()
    shift = cam_from_obj[nearest, :3, 3] - cam_from_obj[older, :3, 3]
    rotation = Rotation.from_rotvec(turn * ratio).as_matrix() @ cam_from_obj[nearest, :3, :3]
    return rigid(rotation, cam_from_obj[nearest, :3, 3] + ratio * shift)


def surface_normals(points: Float[np.ndarray, "P 3"], placed: Bool[np.ndarray, " P"]) -> Float[np.ndarray, "P 3"]:
    """Unit normals of planes through each point's neighbours (sign arbitrary); zero where there is no point."""
    from scipy.spatial import cKDTree

    normals = np.zeros_like(points)
    index = np.flatnonzero(placed)
    _, near = cKDTree(points[index]).query(points[index], k=min(NEIGHBOURS, len(index)))
    patch = points[index][near]
    patch = patch - patch.mean(1, keepdims=True)
    normals[index] = np.linalg.svd(patch, full_matrices=False)[2][:, -1]
    return normals


def warps_between(
    structure: Structure,
    index: Int[np.ndarray, " n"],
    normals: Float[np.ndarray, "n 3"],
    reference_from_obj: Float[np.ndarray, "n 4 4"],
    target_from_obj: Float[np.ndarray, "4 4"],
) -> tuple[Float[np.ndarray, "n 2 2"], Bool[np.ndarray, " n"]]:
    """Affine maps of the surface around each point from its reference image to the target, and where both see the same side."""
    points = structure.points[index]
    helper = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    u = np.cross(normals, helper)
    u /= np.maximum(np.linalg.norm(u, axis=-1, keepdims=True), 1e-12)
    tangents = np.stack([u, np.cross(normals, u)], -1)

    def derivative(cam_from_obj: np.ndarray) -> np.ndarray:
        cam = np.einsum("nij,nj->ni", cam_from_obj[:, :3, :3], points) + cam_from_obj[:, :3, 3]
        moved = cam_from_obj[:, :3, :3] @ tangents
        flat = cam[:, :2] / cam[:, 2:]
        return (moved[:, :2] - flat[:, :, None] * moved[:, 2:]) / cam[:, 2:, None]

    reference = derivative(reference_from_obj)
    target = derivative(np.broadcast_to(target_from_obj, reference_from_obj.shape))
    determinant_r, determinant_t = np.linalg.det(reference), np.linalg.det(target)
    # A grazing or flipped view has a small or opposite determinant.
    facing = (determinant_r * determinant_t > 0) & (np.abs(determinant_t) > 0.2 * np.abs(determinant_r))
    facing &= np.abs(determinant_r) > 0.1 * np.median(np.abs(determinant_r))
    safe = np.where(facing[:, None, None], reference, np.eye(2))
    return target @ np.linalg.inv(safe), facing


def _find(
    table: np.ndarray,
    structure: Structure,
    placed: np.ndarray,
    normals: np.ndarray,
    views: Views,
    t: int,
    start: np.ndarray,
    search_px: int,
    options: GrowOptions,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """Pose of frame t, the points found there, where (px from the principal point), and the pose's uncertainty in degrees.

    None when too few agree.
    """
    seen = np.isfinite(table[..., 0])
    cam = transform(start, structure.points)
    predicted = structure.focal_px * cam[:, :2] / np.maximum(cam[:, 2:], 1e-6)
    near = np.zeros(len(placed), bool)
    reach = label_at(_widened(views.mask(t), search_px), (predicted + views.principal_px).astype(np.float32)) == 1
    near[placed & seen.any(0) & reach & (cam[:, 2] > 0)] = True
    index = np.flatnonzero(near)
    if len(index) < options.min_frame_points:
        return None
    order = np.abs(np.arange(len(table)) - t)
    reference = np.array([np.flatnonzero(seen[:, p])[order[seen[:, p]].argmin()] for p in index])
    warps, facing = warps_between(structure, index, normals[index], structure.cam_from_obj[reference], start)
    index, reference, warps = index[facing], reference[facing], warps[facing]
    if len(index) < options.min_frame_points:
        return None
    centres, good, index = _matched(table, views, t, index, reference, warps, predicted, search_px)
    if good.sum() < options.min_frame_points:
        return None
    index, xy_px = index[good], centres[good] - views.principal_px
    pose, _ = refine_pose(start, structure.points[index], xy_px, structure.focal_px, 8 * options.loss_px)
    pose, error = refine_pose(pose, structure.points[index], xy_px, structure.focal_px, options.loss_px)
    agree = error < options.max_error_px
    if agree.sum() < options.min_frame_points or agree.mean() < 0.5:
        return None
    sigma_px = float(np.median(error[agree]))
    uncertainty_deg = pose_uncertainty_deg(pose, structure.points[index[agree]], structure.focal_px, sigma_px)
    return pose, index[agree], xy_px[agree], uncertainty_deg * float(np.sqrt(CORRELATED_PATCHES))


def _widened(mask: np.ndarray, by_px: int) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by_px + 1,) * 2, np.uint8))


def _matched(
    table: np.ndarray,
    views: Views,
    t: int,
    index: np.ndarray,
    reference: np.ndarray,
    warps: np.ndarray,
    predicted: np.ndarray,
    search_px: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patches of the reference frames looked for in frame t: positions, whether they match, and whose points they are."""
    parts = []
    for r in np.unique(reference):
        rows = np.flatnonzero(reference == r)
        centres = (table[r, index[rows]] + views.principal_px).astype(np.float32)
        templates, good = make_templates(views.image(int(r)), views.mask(int(r)), centres, PATCH_RADIUS_PX)
        parts.append((templates.where(good), rows[good]))
    templates, rows = Templates.joined([part for part, _ in parts]), np.concatenate([rows for _, rows in parts])
    image, mask = views.image(t), views.mask(t)
    start, affine = (predicted[index[rows]] + views.principal_px).astype(np.float32), warps[rows].astype(np.float32)
    shift = _common_shift(image, mask, templates, start, affine, search_px)
    centres, _, correlation = align(templates, image, start + shift, affine)
    moved = np.linalg.norm(centres - start - shift, axis=-1)
    good = (correlation > MIN_CORRELATION) & (moved < MAX_SHIFT_PX) & (label_at(mask.astype(np.uint8), centres) == 1)
    return centres, good, index[rows]


def _common_shift(
    image: np.ndarray, mask: np.ndarray, templates: Templates, start: np.ndarray, affine: np.ndarray, search_px: int
) -> Float[np.ndarray, "2"]:
    """The shift, in whole px, by which the patches together match best; only patches that land on the object count."""
    best, best_score = np.zeros(2, np.float32), -np.inf
    inside = mask.astype(np.float32)
    pixels = start[:, None] + templates.offsets @ np.swapaxes(affine, 1, 2)
    for dy in range(-search_px, search_px + 1):
        for dx in range(-search_px, search_px + 1):
            shift = np.array([dx, dy], np.float32)
            seen, on = sample(image, pixels + shift), sample(inside, pixels + shift)
            weight = templates.weight * (on > 0.5)
            centred = seen - np.sum(templates.weight * seen, -1, keepdims=True)
            contrast = np.sqrt(np.sum(templates.weight * centred**2, -1)) + 1e-3
            score = float(np.sum(np.sum(weight * centred * templates.brightness, -1) / contrast))
            if score > best_score:
                best, best_score = shift, score
    return best
