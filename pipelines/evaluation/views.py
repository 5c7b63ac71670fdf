"""Comparing rendered held-out views with the true ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from pipelines.artifacts import UNKNOWN
from pipelines.evaluation import depth, images
from pipelines.evaluation.alignment import Alignment
from pipelines.evaluation.segmentation import Overlap, mean_iou, overlap, panoptic_quality, relabelled
from pipelines.geometry import at_pixel_centres, scaled_intrinsics
from pipelines.ground_truth import GroundTruth
from pipelines.scenery import SceneLike, ViewLike
from pipelines.spread import evenly_spread

MOST_PSNR_DB = 100.0
"""Identical images count as this much in a mean."""
Perceptual = Callable[[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W 3"]], float]


@dataclass(frozen=True)
class TrueView:
    """One held-out view at the size at which it is compared."""

    t: int
    cam_from_world: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    rgb: Float32[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "H W"] | None
    label: UInt8[np.ndarray, "H W"] | None
    mask: Bool[np.ndarray, "H W"] | None
    n_labels: int = 1
    """How many labels the truth has, whether or not this view shows them."""

    def judged_as(self, other: "TrueView") -> "TrueView":
        """With the mask of the same view at another size."""
        height, width = self.rgb.shape[:2]
        return replace(self, mask=None if other.mask is None else at_pixel_centres(other.mask[None], width, height)[0])


@dataclass(frozen=True)
class ViewScore:
    """One rendered view against the truth; NaN where something is not known."""

    psnr_db: float
    ssim: float
    lpips: float
    ssimae: float
    overlap: Overlap | None
    """True labels, then those of objects without a counterpart."""
    n_true: int
    """How many of its labels are true ones."""


def true_views(truth: GroundTruth, n: int, width: int | None, usable: Bool[np.ndarray, " T"]) -> list[TrueView]:
    """At most n held-out views, evenly spread over those whose time is usable (has a camera pose in the scene)."""
    views = np.flatnonzero(usable[truth.frame_test])
    return [true_view(truth, int(view), width) for view in evenly_spread(views, n)]


def true_view(truth: GroundTruth, view: int, width: int | None) -> TrueView:
    """One held-out view, made smaller where a width is asked for."""
    import cv2

    width = truth.width if width is None else min(width, truth.width)
    height = round(truth.height * width / truth.width)
    rgb = truth.image_test(view)
    if rgb.shape[:2] != (height, width):
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    intrinsics = scaled_intrinsics(truth.view_intrinsics(view), width / truth.width, height / truth.height)

    def smaller(maps: np.ndarray | None) -> np.ndarray | None:
        return None if maps is None else at_pixel_centres(maps[view : view + 1], width, height)[0]

    return TrueView(
        t=int(truth.frame_test[view]),
        cam_from_world=truth.cam_from_world_test[view],
        intrinsics=intrinsics,
        rgb=(rgb / 255).astype(np.float32),
        depth=smaller(truth.depth_test),
        label=smaller(truth.segm_test),
        mask=smaller(truth.covisible_test),
        n_labels=1 if truth.segm_test is None else int(truth.segm_test[truth.segm_test != UNKNOWN].max(initial=0)) + 1,
    )


def render_like(scene: SceneLike, alignment: Alignment, view: TrueView, scale: Float[np.ndarray, " K"]) -> ViewLike:
    """The scene under one combination, seen by the camera of a held-out view."""
    height, width = view.rgb.shape[:2]
    return scene.render(
        t=view.t,
        scale=scale,
        view_from_world=alignment.view_from_world(view.cam_from_world),
        intrinsics=view.intrinsics,
        width=width,
        height=height,
    )


def compare_view(
    rendered: ViewLike, true: TrueView, true_of: dict[int, int], perceptual: Perceptual | None = None
) -> ViewScore:
    """All image-wise measures of one view. true_of: true label of each predicted one."""
    missing = float("nan")
    counted, n_true = None, 0
    if true.label is not None:
        n_true = max(true.n_labels, max(true_of.values()) + 1)
        found = relabelled(rendered.label, true_of, n_true)
        counted = overlap(found, true.label, max(n_true, int(found[found != UNKNOWN].max(initial=0)) + 1), true.mask)
    known_depth = np.where(rendered.depth > 0, rendered.depth, np.nan)
    return ViewScore(
        psnr_db=images.psnr_db(rendered.rgb, true.rgb, true.mask),
        ssim=images.ssim(rendered.rgb, true.rgb, true.mask),
        lpips=missing if perceptual is None else perceptual(_judged(rendered.rgb, true), true.rgb),
        ssimae=missing if true.depth is None else depth.scale_shift_invariant_error(known_depth, true.depth, true.mask),
        overlap=counted,
        n_true=n_true,
    )


def _judged(rgb: Float[np.ndarray, "H W 3"], true: TrueView) -> Float[np.ndarray, "H W 3"]:
    """The image with the truth where nothing is judged: a network sees its pixels with what is around them."""
    finite = images.made_finite(rgb, true.rgb)
    return finite if true.mask is None else np.where(true.mask[..., None], finite, true.rgb)


def summarised(scores: Sequence[ViewScore]) -> dict[str, float]:
    """Means over views that are defined; PSNR of identical images counts as 100 dB.

    Labels: mIoU of the true ones over all pixels; PQ, in which objects without a counterpart are false positives.
    """
    same_size, n_true = _padded(scores), max((score.n_true for score in scores), default=0)
    return {
        "psnr_db": _mean([min(score.psnr_db, MOST_PSNR_DB) for score in scores]),
        "ssim": _mean([score.ssim for score in scores]),
        "lpips": _mean([score.lpips for score in scores]),
        "ssimae": _mean([score.ssimae for score in scores]),
        "miou": mean_iou(_total(same_size).of_labels(n_true)) if same_size else float("nan"),
        "pq": panoptic_quality(same_size),
    }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _padded(scores: Sequence[ViewScore]) -> list[Overlap]:
    """Counts brought to the same number of labels."""
    counted = [score.overlap for score in scores if score.overlap is not None]
    n = max((len(one.true) for one in counted), default=0)
    return [
        Overlap(*(np.pad(table, (0, n - len(one.true))) for table in (one.both, one.true, one.predicted))) for one in counted
    ]


def _total(counted: Sequence[Overlap]) -> Overlap:
    names = ("both", "true", "predicted")
    return Overlap(*(np.sum([getattr(one, name) for one in counted], axis=0) for name in names))
