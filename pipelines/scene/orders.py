"""The evidence as depth-order tests, the common ground of the scale zone and of the labels for the scale network.

Where the mask says that column i is seen and column j is hit too, i must be in front: `s_i d_i <= s_j d_j`, which in log scales
`x = log s` is the test `x_i - x_j <= log d_j - log d_i`. A ray agrees with its label when all its tests hold.

Semi-transparent edges. Composited front to back, object k weighs `a_k * prod_{nearer} (1 - a_j)` and the heaviest names the
ray. For i and j alone on a ray: i in front wins when `a_i >= (1 - a_i) a_j`; j in front hides i when `a_j > (1 - a_j) a_i`.
So a ray whose own object is too transparent to win even in front has no hope under any scales and is left out (counted),
and an object too transparent to hide the seen one sets no test. (Neither happens while evidence asks for an opacity of 0.5.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.scene.evidence import OcclusionEvidence


@dataclass(frozen=True)
class OrderTests:
    """One row per test, sorted by ray: on `ray`, `x[front] - x[back] <= bound` must hold."""

    ray: Int[np.ndarray, " M"]
    front: UInt8[np.ndarray, " M"]
    back: UInt8[np.ndarray, " M"]
    bound: Float[np.ndarray, " M"]
    guessed: Bool[np.ndarray, " M"]
    """The hidden surface was never seen there; its depth is continued from what was seen around."""
    ray_frame: Int[np.ndarray, " R"]
    """Frame and full-size pixel of each tested ray."""
    ray_xy_px: Float[np.ndarray, "R 2"]
    n_columns: int
    n_hopeless: int
    """Rays left out because no combination of scales can make them agree with their label."""

    @property
    def n_rays(self) -> int:
        return len(self.ray_frame)


def order_tests(evidence: OcclusionEvidence) -> OrderTests:
    """Every test that the evidence supports. Rays without one (nothing credible behind what is seen) are left out."""
    n_rays, n_columns = evidence.depth.shape
    rows, front = np.arange(n_rays), evidence.column.astype(int)
    front_opacity = evidence.opacity[rows, front][:, None]
    front_depth = evidence.depth[rows, front][:, None]

    rival = np.isfinite(evidence.depth) & (np.arange(n_columns) != front[:, None])
    hides = rival & evidence.credible & (evidence.opacity > (1 - evidence.opacity) * front_opacity)
    outshines = rival & (front_opacity < (1 - front_opacity) * evidence.opacity)
    hopeless = ~np.isfinite(front_depth[:, 0]) | outshines.any(1)

    ray, back = np.nonzero(hides & ~hopeless[:, None])
    bound = np.log(evidence.depth[ray, back].astype(float)) - np.log(front_depth[ray, 0].astype(float))
    tested, renumbered = np.unique(ray, return_inverse=True)
    return OrderTests(
        ray=renumbered,
        front=front[ray].astype(np.uint8),
        back=back.astype(np.uint8),
        bound=bound,
        guessed=~evidence.observed[ray, back],
        ray_frame=evidence.frame[tested],
        ray_xy_px=evidence.xy_px[tested],
        n_columns=n_columns,
        n_hopeless=int(hopeless.sum()),
    )
