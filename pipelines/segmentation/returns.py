"""Objects that leave and come back: groups of tracks that are never seen together and look alike are one object."""

import numpy as np
from jaxtyping import Float, Int

from pipelines.artifacts import Video
from pipelines.segmentation.grid_tracks import PointTracks

BINS = 6
"""Per colour channel."""
MIN_SIMILARITY = 0.6
"""Intersection of colour histograms."""
MIN_TRACKS = 3
"""A group counts as seen in frames with at least so many of its tracks."""
MAX_COMMON_FRAMES = 1


def link_returns(video: Video, tracks: PointTracks, label: Int[np.ndarray, " P"]) -> tuple[Int[np.ndarray, " P"], list[str]]:
    """Labels in which a returning object has its first number again, and a sentence for each that did.

    The background (0) is never linked; numbers stay without gaps.
    """
    n_groups = int(label.max()) + 1
    seen = np.stack([tracks.visible[label == g].sum(0) >= MIN_TRACKS for g in range(n_groups)])
    colours = _histograms(video, tracks, label, n_groups)
    label, notes = label.copy(), []
    for later in range(n_groups - 1, 1, -1):
        alike = [
            (float(np.minimum(colours[g], colours[later]).sum()), g)
            for g in range(1, later)
            if (seen[g] & seen[later]).sum() <= MAX_COMMON_FRAMES
        ]
        if alike and max(alike)[0] >= MIN_SIMILARITY:
            similarity, first = max(alike)
            notes.append(
                f"an object that is seen again later, {100 * similarity:.0f} % alike in colour, is taken for object {first}"
            )
            label[label == later] = first
            label[label > later] -= 1
            seen[first] |= seen[later]
    return label, notes


def _histograms(video: Video, tracks: PointTracks, label: Int[np.ndarray, " P"], n_groups: int) -> Float[np.ndarray, "G bins"]:
    """Colours at each group's tracks in all frames; rows sum to 1."""
    counts = np.full((n_groups, BINS**3), 1e-9)
    for t in range(video.n_frames):
        visible = tracks.visible[:, t] & (label >= 0)
        x, y = np.floor(tracks.xy_px[visible, t]).astype(int).T
        quantised = video.frame(t)[np.clip(y, 0, video.height - 1), np.clip(x, 0, video.width - 1)].astype(int) * BINS // 256
        np.add.at(counts, (label[visible], quantised @ np.array([BINS**2, BINS, 1])), 1)
    return counts / counts.sum(1, keepdims=True)
