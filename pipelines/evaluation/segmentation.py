"""How well label maps agree: mean IoU, panoptic quality, and finding out which predicted object is which true one.

Labels: 0 background, 1 ... objects, 255 unknown. Where the truth is unknown nothing is judged; where the prediction is
unknown it is wrong for every label.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipelines.artifacts import BACKGROUND, UNKNOWN

LEAST_IOU = 0.1
"""Over the whole video, of an object and its counterpart: a few shared pixels at a border make no pair."""


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one image: `both[i, j]` where the truth is i and the prediction j, for labels below n."""

    both: Int[np.ndarray, "n n"]
    true: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]

    @property
    def iou(self) -> Float[np.ndarray, "n n"]:
        """Of every true label with every predicted one; NaN where neither is there."""
        union = self.true[:, None] + self.predicted - self.both
        return np.where(union > 0, self.both / np.maximum(union, 1), np.nan)

    def of_labels(self, n: int) -> "Overlap":
        """The counts of the first n labels."""
        return Overlap(self.both[:n, :n], self.true[:n], self.predicted[:n])


def overlap(
    predicted: UInt8[np.ndarray, "*n"],
    true: UInt8[np.ndarray, "*n"],
    n_labels: int,
    mask: Bool[np.ndarray, "*n"] | None = None,
) -> Overlap:
    """Count agreeing pixels over one image or a stack of them."""
    judged = true != UNKNOWN
    if mask is not None:
        judged &= mask
    # One more class stands for "no label": unknown or out of range.
    q = np.minimum(true[judged], n_labels).astype(np.int64)
    p = np.minimum(predicted[judged], n_labels).astype(np.int64)
    counts = np.bincount(q * (n_labels + 1) + p, minlength=(n_labels + 1) ** 2).reshape(n_labels + 1, n_labels + 1)
    return Overlap(counts[:-1, :-1], counts.sum(1)[:-1], counts.sum(0)[:-1])


def mean_iou(counted: Overlap) -> float:
    """Mean over the labels that the truth or the prediction uses; NaN if there are none."""
    iou = np.diag(counted.iou)
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def panoptic_quality(images: list[Overlap]) -> float:
    """Panoptic quality (Kirillov et al., CVPR 2019), each label of an image being one segment.

    Per label over all images: the IoU of matched segments (IoU above 0.5) over matches + half the false positives + half
    the false negatives; then the mean over the labels that occur. NaN if none does.
    """
    if not images:
        return float("nan")
    iou = np.stack([np.diag(counted.iou) for counted in images])
    in_truth = np.stack([counted.true > 0 for counted in images])
    in_prediction = np.stack([counted.predicted > 0 for counted in images])
    matched = np.nan_to_num(iou) > 0.5
    false_negatives, false_positives = in_truth & ~matched, in_prediction & ~matched
    segments = matched.sum(0) + 0.5 * false_positives.sum(0) + 0.5 * false_negatives.sum(0)
    quality = np.where(matched, iou, 0).sum(0) / np.maximum(segments, 1e-12)
    return float(quality[segments > 0].mean()) if (segments > 0).any() else float("nan")


def match_objects(predicted: UInt8[np.ndarray, "T H W"], true: UInt8[np.ndarray, "T H W"]) -> dict[int, int]:
    """True label of each predicted object, so that the IoU over the whole video is greatest (Hungarian method).

    The background is the background. Objects that overlap none by `LEAST_IOU` are left out.
    """
    from scipy.optimize import linear_sum_assignment

    highest = max((int(labels[labels != UNKNOWN].max(initial=0)) for labels in (predicted, true)), default=0)
    iou = np.nan_to_num(overlap(predicted, true, highest + 1).iou)[1:, 1:]
    rows, columns = linear_sum_assignment(-iou)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {BACKGROUND: BACKGROUND} | {column + 1: row + 1 for row, column in pairs if iou[row, column] >= LEAST_IOU}


def relabelled(labels: UInt8[np.ndarray, "*n"], true_of: dict[int, int], n_true: int) -> UInt8[np.ndarray, "*n"]:
    """Predicted label maps in the truth's labels; objects without a counterpart get numbers behind the `n_true` true ones."""
    table = np.minimum(np.arange(256) + n_true, UNKNOWN).astype(np.uint8)
    for predicted, true in true_of.items():
        table[predicted] = true
    return table[labels]
