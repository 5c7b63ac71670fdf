"""A camera that turns and zooms without moving: what a moving camera of one focal length is mistaken for.

Symbols
    R           turn of a frame, camera from background
    a           logarithm of a frame's focal length over the given one
    d           unit direction of a track in the background; q = R d
    p           image point f exp(a) (q_x, q_y) / q_z, px from the principal point
Approaching a flat wall looks the same, and so does driving through a landscape that is too far away to show depth.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipelines.reconstruction.bundle import cauchy, exp_rotation
from pipelines.reconstruction.rotation import rays, turn_between
from pipelines.reconstruction.sightings import Sightings

MIN_LINKS = 4
"""Tracks that two frames must share for a turn and a zoom between them."""
CHAIN_STEPS, JOINT_STEPS, TOLERANCE = 8, 30, 1e-3


@dataclass(frozen=True)
class TurnedAndZoomed:
    """How well such a camera explains the tracks."""

    residual_px: Float[np.ndarray, "N 2"]
    zoom: float
    """The largest focal length over the smallest."""


@dataclass(frozen=True)
class _Observed:
    """Image points, px from the principal point, by frame and track; and the given focal length."""

    frame: Int[np.ndarray, " N"]
    track: Int[np.ndarray, " N"]
    xy_px: Float[np.ndarray, "N 2"]
    focal_px: float


def turn_and_zoom(sightings: Sightings, focal_px: float, loss_px: float) -> TurnedAndZoomed:
    """Four unknowns per frame and two per track, with the Cauchy loss: frame by frame first, then all at once."""
    seen = sightings.seen
    frame, track = np.nonzero(seen & (seen.sum(0) >= 2))
    observed = _Observed(frame, track, sightings.xy_px[frame, track], focal_px)
    turn, log_zoom = _chained(sightings, focal_px, loss_px)
    d = _directions(sightings, turn, log_zoom, focal_px)
    residual, _ = _residuals(observed, turn, log_zoom, d)
    cost, damping = cauchy(residual, loss_px)[0].sum(), 1e-4
    for _ in range(JOINT_STEPS):
        moved = _step(observed, turn, log_zoom, d, loss_px, damping)
        proposed, _ = _residuals(observed, *moved)
        proposed_cost = cauchy(proposed, loss_px)[0].sum()
        if not proposed_cost < cost:
            damping *= 8
            if damping > 1e3:
                break
            continue
        gain, cost, damping = (cost - proposed_cost) / cost, proposed_cost, damping / 5
        (turn, log_zoom, d), residual = moved, proposed
        if gain < TOLERANCE:
            break
    shown = np.unique(frame)
    return TurnedAndZoomed(residual, float(np.exp(np.ptp(log_zoom[shown]))) if len(shown) else 1.0)


def _chained(
    sightings: Sightings, focal_px: float, loss_px: float
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, " T"]]:
    """Each frame from the one before, by the tracks that both show; a frame that shares too few goes on as it was."""
    seen = sightings.seen
    turn, log_zoom = np.tile(np.eye(3), (sightings.n_frames, 1, 1)), np.zeros(sightings.n_frames)
    for t in range(1, sightings.n_frames):
        turn[t], log_zoom[t] = turn[t - 1], log_zoom[t - 1]
        common = np.flatnonzero(seen[t - 1] & seen[t])
        if len(common) < MIN_LINKS:
            continue
        before = rays(Sightings(sightings.xy_px[t - 1 : t, common]), focal_px * float(np.exp(log_zoom[t])))[0]
        now = rays(Sightings(sightings.xy_px[t : t + 1, common]), focal_px * float(np.exp(log_zoom[t])))[0]
        d, xy_px = before @ turn[t - 1], sightings.xy_px[t, common]
        turn[t] = turn_between(before, now) @ turn[t - 1]
        for _ in range(CHAIN_STEPS):
            f = focal_px * np.exp(log_zoom[t])
            by_pose, _, p = _derivatives(np.broadcast_to(turn[t], (len(d), 3, 3)), np.full(len(d), f), d)
            weight = np.repeat(cauchy(p - xy_px, loss_px)[1], 2)
            jacobian = by_pose.reshape(-1, 4)
            normal = (jacobian * weight[:, None]).T @ jacobian + 1e-9 * np.eye(4)
            step = np.linalg.solve(normal, -(jacobian * weight[:, None]).T @ (p - xy_px).reshape(-1))
            turn[t], log_zoom[t] = exp_rotation(step[:3]) @ turn[t], log_zoom[t] + np.clip(step[3], -0.3, 0.3)
    return turn, log_zoom


def _directions(
    sightings: Sightings, turn: Float[np.ndarray, "T 3 3"], log_zoom: Float[np.ndarray, " T"], focal_px: float
) -> Float[np.ndarray, "P 3"]:
    """Mean direction of each track; that of the optical axis where it is never seen."""
    scaled = Sightings(sightings.xy_px / np.exp(log_zoom)[:, None, None])
    total = np.einsum("tji,tpj->pi", turn, np.nan_to_num(rays(scaled, focal_px)))
    total[~sightings.seen.any(0)] = [0.0, 0.0, 1.0]
    unit: Float[np.ndarray, "P 3"] = total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
    return unit


def _derivatives(
    turn: Float[np.ndarray, "N 3 3"], f_px: Float[np.ndarray, " N"], d: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "N 2 4"], Float[np.ndarray, "N 2 3"], Float[np.ndarray, "N 2"]]:
    """Of the image points p by (w, a) with R <- exp(w) R, and by q; and p itself."""
    q = np.einsum("nij,nj->ni", turn, d)
    depth = np.maximum(q[:, 2], 1e-3)
    p = f_px[:, None] * q[:, :2] / depth[:, None]
    by_q = np.zeros((len(q), 2, 3))
    by_q[:, 0, 0] = by_q[:, 1, 1] = f_px / depth
    by_q[:, :, 2] = -p / depth[:, None]
    return np.concatenate([np.cross(q[:, None], by_q), p[..., None]], -1), by_q, p


def _residuals(
    observed: _Observed, turn: Float[np.ndarray, "T 3 3"], log_zoom: Float[np.ndarray, " T"], d: Float[np.ndarray, "P 3"]
) -> tuple[Float[np.ndarray, "N 2"], tuple[Float[np.ndarray, "N 2 4"], Float[np.ndarray, "N 2 3"]]]:
    frame = observed.frame
    by_pose, by_q, p = _derivatives(turn[frame], observed.focal_px * np.exp(log_zoom[frame]), d[observed.track])
    return p - observed.xy_px, (by_pose, by_q)


def _step(
    observed: _Observed,
    turn: Float[np.ndarray, "T 3 3"],
    log_zoom: Float[np.ndarray, " T"],
    d: Float[np.ndarray, "P 3"],
    loss_px: float,
    damping: float,
) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, " T"], Float[np.ndarray, "P 3"]]:
    """Levenberg-Marquardt: directions, two unknowns each in their tangent plane, are eliminated."""
    frame, track = observed.frame, observed.track
    residual, (by_pose, by_q) = _residuals(observed, turn, log_zoom, d)
    tangent = np.linalg.svd(d[:, None])[2][:, 1:]
    root = np.sqrt(cauchy(residual, loss_px)[1])[:, None, None]
    by_pose = by_pose * root
    by_direction = by_q @ turn[frame] @ np.swapaxes(tangent[track], 1, 2) * root
    residual = residual * root[..., 0]
    n_frames, n_tracks = len(turn), len(d)
    U, V, W = np.zeros((n_frames, 4, 4)), np.zeros((n_tracks, 2, 2)), np.zeros((n_frames, 4, n_tracks, 2))
    g, g_d = np.zeros((n_frames, 4)), np.zeros((n_tracks, 2))
    np.add.at(U, frame, np.swapaxes(by_pose, 1, 2) @ by_pose)
    np.add.at(V, track, np.swapaxes(by_direction, 1, 2) @ by_direction)
    W[frame, :, track] = np.swapaxes(by_pose, 1, 2) @ by_direction
    np.add.at(g, frame, np.einsum("nij,ni->nj", by_pose, residual))
    np.add.at(g_d, track, np.einsum("nij,ni->nj", by_direction, residual))
    # The gauge is fixed by the damping alone: nothing tells which way the background is turned.
    U += np.eye(4) * (damping * U + 1e-6 * max(float(U.max()), 1e-12))
    V += np.eye(2) * (damping * V + 1e-6 * max(float(V.max()), 1e-12))
    V_inverse = np.linalg.inv(V)
    WV = np.einsum("tapi,pij->tapj", W, V_inverse, optimize=True).reshape(4 * n_frames, -1)
    S = -WV @ W.reshape(4 * n_frames, -1).T
    rows = np.arange(4 * n_frames).reshape(n_frames, 4)
    S[rows[:, :, None], rows[:, None, :]] += U
    step = np.linalg.solve(S, -g.reshape(-1) + WV @ g_d.reshape(-1)).reshape(n_frames, 4)
    step_d = np.einsum("pij,pj->pi", V_inverse, -g_d - np.einsum("tapi,ta->pi", W, step, optimize=True))
    moved = d + np.einsum("pi,pij->pj", step_d, tangent)
    unit: Float[np.ndarray, "P 3"] = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    return exp_rotation(step[:, :3]) @ turn, log_zoom + np.clip(step[:, 3], -0.3, 0.3), unit
