"""The video as training data: colours and labels at the working size, and the sparse depths of structure from motion.

Everything is prepared once; a step only draws indices, so its cost does not depend on the number of frames.
Columns are indices into the scene's objects; 255 marks pixels that no one may learn a label from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor

from pipelines.artifacts import BACKGROUND, UNKNOWN, Labels, ObjectModel, Sfm, Video
from pipelines.geometry import at_pixel_centres, scaled_intrinsics, transform
from pipelines.scene.depth_guess import depth_guess
from pipelines.scene.guess_consistency import consistent_guess
from pipelines.scene.unseen import UnseenRays, unseen_rays


def working_size(width: int, height: int, max_side_px: int) -> tuple[int, int]:
    """Size with the longer side at most `max_side_px`; never larger than the video."""
    factor = min(1.0, max_side_px / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def columns_of(labels: UInt8[np.ndarray, "H W"], models: Sequence[ObjectModel], t: int) -> UInt8[np.ndarray, "H W"]:
    """The label map of frame t as scene columns; objects outside the scene or without a pose in this frame become 255."""
    columns = np.full(labels.shape, UNKNOWN, np.uint8)
    for column, model in enumerate(models):
        if model.registered[t]:
            columns[labels == model.object_id] = column
    return columns


def resized_columns(columns: UInt8[np.ndarray, "H W"], width: int, height: int) -> UInt8[np.ndarray, "h w"]:
    """Labels at another size: a smaller map keeps a label only where the pixel's whole area agrees, otherwise it is 255."""
    if columns.shape == (height, width):
        return columns
    if width > columns.shape[1]:
        return at_pixel_centres(columns, width, height)
    present = [c for c in np.unique(columns) if c != UNKNOWN]
    result = np.full((height, width), UNKNOWN, np.uint8)
    for column in present:
        covered = cv2.resize((columns == column).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        result[covered > 0.999] = column
    return result


@dataclass(frozen=True)
class Batch:
    """Rays with what is known about them. Colour is only to be compared where `coloured`."""

    frame: Int[Tensor, " n"]
    xy_px: Float[Tensor, "n 2"]
    rgb: Float[Tensor, "n 3"]
    coloured: Bool[Tensor, " n"]
    column: Int[Tensor, " n"]
    depth: Float[Tensor, " n"]
    """Depth of the seen object in its own unit; 0 where unknown."""
    depth_weight: Float[Tensor, " n"]
    guess: Float[Tensor, " n"]
    """Rough depth of the seen object in its own unit; 0 where there is none."""


@dataclass(frozen=True)
class SparseDepths:
    """Structure-from-motion points where they were observed, all objects one after another."""

    start: Int[np.ndarray, " K_and_end"]
    frame: Int[Tensor, " m"]
    xy_px: Float[Tensor, "m 2"]
    column: Int[Tensor, " m"]
    depth: Float[Tensor, " m"]
    weight: Float[Tensor, " m"]


def sparse_depths(
    models: Sequence[ObjectModel], factor_x: float, factor_y: float, error_scale_px: float, device: torch.device
) -> SparseDepths:
    """Depth of every observed point, weighted by 1 / (1 + (reprojection error / error_scale)^2); pixels at the working size."""
    frame, xy_px, column, depth, weight, start = [], [], [], [], [], [0]
    for k, model in enumerate(models):
        seen = model.registered[model.obs_frame]
        f, p = model.obs_frame[seen], model.obs_point[seen]
        z = transform(model.cam_from_obj[f], model.points[p][:, None])[:, 0, 2]
        front = z > 0
        frame.append(f[front])
        xy_px.append(model.obs_xy_px[seen][front] * [factor_x, factor_y])
        column.append(np.full(front.sum(), k))
        depth.append(z[front])
        weight.append(1 / (1 + (model.point_error_px[p][front] / error_scale_px) ** 2))
        start.append(start[-1] + int(front.sum()))

    def joined(parts: list[np.ndarray], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(np.concatenate(parts), dtype=dtype, device=device)

    return SparseDepths(
        np.array(start),
        joined(frame, torch.long),
        joined(xy_px, torch.float32),
        joined(column, torch.long),
        joined(depth, torch.float32),
        joined(weight, torch.float32),
    )


@dataclass(frozen=True)
class PixelStore:
    """All pixels of the video at the working size (`width` x `height`), on the device, in bytes."""

    rgb: UInt8[Tensor, "T h w 3"]
    column: UInt8[Tensor, "T h w"]
    coloured: Bool[Tensor, "T h w"]
    pools: tuple[Int[Tensor, " _"], ...]
    """Per object, the flat indices of the pixels where it is seen."""
    sparse: SparseDepths
    guess: Float16[Tensor, "T h w"]
    """Rough depth of the seen object in its own unit, interpolated between its points; 0 where there is none."""
    unseen: UnseenRays
    """Into background that no frame sees."""

    @property
    def width(self) -> int:
        return self.rgb.shape[2]

    @property
    def height(self) -> int:
        return self.rgb.shape[1]

    @classmethod
    def prepare(
        cls, video: Video, labels: Labels, sfm: Sfm, *, max_side_px: int, error_scale_px: float, device: torch.device
    ) -> "PixelStore":
        width, height = working_size(video.width, video.height, max_side_px)
        models = [sfm.objects[k] for k in sfm.scene_ids]
        rgb = np.empty((video.n_frames, height, width, 3), np.uint8)
        column = np.empty((video.n_frames, height, width), np.uint8)
        coloured = np.empty((video.n_frames, height, width), bool)
        for t, image in enumerate(video):
            full = columns_of(labels.maps[t], models, t)
            rgb[t] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            column[t] = resized_columns(full, width, height)
            coloured[t] = resized_columns(np.where(full == UNKNOWN, UNKNOWN, 0).astype(np.uint8), width, height) == 0
        index = np.int32 if column.size < 2**31 else np.int64
        pools = [torch.from_numpy(np.flatnonzero(column == k).astype(index)).to(device) for k in range(len(models))]
        intrinsics = scaled_intrinsics(sfm.intrinsics, width / video.width, height / video.height)
        sparse = sparse_depths(models, width / video.width, height / video.height, error_scale_px, device)
        poses, registered = np.stack([m.cam_from_obj for m in models]), np.stack([m.registered for m in models])
        guess = consistent_guess(_guess(column, sparse), column, intrinsics, poses, registered)
        return cls(
            torch.from_numpy(rgb).to(device),
            torch.from_numpy(column).to(device),
            torch.from_numpy(coloured).to(device),
            tuple(pools),
            sparse,
            torch.from_numpy(guess).to(device),
            unseen_rays(column, guess, intrinsics, poses[BACKGROUND], registered[BACKGROUND]).to(device),
        )

    def batch(self, n_per_column: Sequence[int], n_sparse_per_column: Sequence[int], generator: torch.Generator) -> Batch:
        """Random pixels (with a random place inside each) of every object, then random sparse depths of every object."""
        device = self.rgb.device
        drawn = [
            pool[torch.randint(len(pool), (n,), generator=generator, device=device)].long()
            for pool, n in zip(self.pools, n_per_column, strict=True)
            if n and len(pool)
        ]
        flat = torch.cat(drawn)
        frame, place = flat // (self.width * self.height), flat % (self.width * self.height)
        corner = torch.stack([place % self.width, place // self.width], -1)
        xy_px = corner + torch.rand(len(flat), 2, generator=generator, device=device)
        sparse = self._draw_sparse(n_sparse_per_column, generator)
        s = self.sparse
        corner_sparse = s.xy_px[sparse].long()
        corner_sparse = torch.stack(
            [corner_sparse[:, 0].clamp(0, self.width - 1), corner_sparse[:, 1].clamp(0, self.height - 1)], -1
        )
        all_frames, corners = torch.cat([frame, s.frame[sparse]]), torch.cat([corner, corner_sparse])
        at = (all_frames, corners[:, 1], corners[:, 0])
        unknown = torch.zeros(len(flat), device=device)
        return Batch(
            frame=all_frames,
            xy_px=torch.cat([xy_px, s.xy_px[sparse]]),
            rgb=self.rgb[at].float() / 255,
            coloured=self.coloured[at],
            column=torch.cat([self.column[at][: len(flat)].long(), s.column[sparse]]),
            depth=torch.cat([unknown, s.depth[sparse]]),
            guess=self.guess[at].float(),
            depth_weight=torch.cat([unknown, s.weight[sparse]]),
        )

    def draw_unseen(self, n: int, generator: torch.Generator) -> UnseenRays:
        """n random rays into background that no frame sees; none where there is no such background."""
        n_rays = len(self.unseen)
        return self.unseen[torch.randint(max(1, n_rays), (n if n_rays else 0,), generator=generator, device=self.rgb.device)]

    def _draw_sparse(self, n_per_column: Sequence[int], generator: torch.Generator) -> Int[Tensor, " n"]:
        device = self.rgb.device
        drawn = [torch.zeros(0, dtype=torch.long, device=device)]
        for first, end, n in zip(self.sparse.start[:-1], self.sparse.start[1:], n_per_column, strict=True):
            if n and end > first:
                drawn.append(torch.randint(int(first), int(end), (n,), generator=generator, device=device))
        return torch.cat(drawn)


def _guess(column: UInt8[np.ndarray, "T h w"], sparse: SparseDepths) -> Float16[np.ndarray, "T h w"]:
    observed = (sparse.frame, sparse.xy_px.double(), sparse.column, sparse.depth.double())
    frame, xy_px, obs_column, depth = (part.cpu().numpy() for part in observed)
    return depth_guess(column, frame, xy_px, obs_column, depth)
