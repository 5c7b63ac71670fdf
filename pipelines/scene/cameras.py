"""Poses of every object in every frame as a differentiable module: the given ones and small corrections to them.

A correction turns the object about a pivot by `exp(turn)` and shifts it by `shift` object distances, both in camera axes:
    X_cam = exp(turn) (R X + tau - pivot) + pivot + shift * distance.
The pivot is the object's centre, for the background the camera, so that turning and shifting do not compensate each other.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def rotation_from_turn(turn: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula, smooth at zero."""
    squared = turn.square().sum(-1)[..., None, None]
    angle = squared.clamp_min(1e-12).sqrt()
    small = squared < 1e-8
    sine = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    cosine = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(angle)) / angle.square())
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, device=turn.device, dtype=turn.dtype) + sine * cross + cosine * (cross @ cross)


class Cameras(nn.Module):
    """cam_from_obj of K objects in T frames, in each object's own unit."""

    def __init__(
        self,
        cam_from_obj: Float[Tensor, "objects frames 4 4"],
        centres: Float[Tensor, "objects 3"],
        registered: Bool[Tensor, "objects frames"] | None = None,
    ) -> None:
        """centres: the point of each object (own frame) about which corrections turn it; unused for the background.

        registered: frames with a known pose (None: all); the others hold any.
        """
        super().__init__()
        rotation, translation = cam_from_obj[..., :3, :3], cam_from_obj[..., :3, 3]
        pivot = (rotation @ centres[:, None, :, None])[..., 0] + translation
        known = torch.ones_like(pivot[..., 0], dtype=torch.bool) if registered is None else registered
        distance = pivot[..., 2].abs().where(known, torch.nan).nanmedian(1).values.nan_to_num(1.0).clamp_min(1e-6)
        # Of the background, in whose box the camera stands: its unit is its median depth.
        distance[0], pivot[0] = 1.0, 0.0
        self.register_buffer("given", cam_from_obj.clone())
        self.register_buffer("pivot", pivot)
        self.register_buffer("distance", distance)
        self.twist = nn.Parameter(torch.zeros(*cam_from_obj.shape[:2], 6))

    given: Tensor
    pivot: Tensor
    distance: Tensor

    def cam_from_obj(self, column: int, frames: Int[Tensor, " n"]) -> Float[Tensor, "n 4 4"]:
        """Corrected poses of one object."""
        given, twist, pivot = self.given[column, frames], self.twist[column, frames], self.pivot[column, frames]
        turn = rotation_from_turn(twist[:, :3])
        moved = (turn @ (given[:, :3, 3] - pivot)[..., None])[..., 0] + pivot + twist[:, 3:] * self.distance[column]
        corrected = torch.cat([turn @ given[:, :3, :3], moved[..., None]], -1)
        return torch.cat([corrected, given[:, 3:]], 1)

    def all_poses(self) -> Float[Tensor, "objects frames 4 4"]:
        frames = torch.arange(self.given.shape[1], device=self.given.device)
        return torch.stack([self.cam_from_obj(k, frames) for k in range(len(self.given))])
