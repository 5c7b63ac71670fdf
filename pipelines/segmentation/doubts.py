"""What the motion segmentation is not sure of, said to the user: a mover that may be missing, two that may be taken for one."""

import numpy as np
from jaxtyping import Int, UInt8

from pipelines.artifacts import Video
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.grouping import neighbour_links
from pipelines.segmentation.refinement import strays
from pipelines.segmentation.rigidity import RigidityTest

NOISE_PX = 0.1
DOUBTFUL_GAIN = 2.5
"""Stray tracks are reported from here on; below, one motion of their own explains them hardly better: smeared flow."""
PART_SHARE = 0.25
"""A second piece of an object this large, compared with the first, counts ..."""
APART_SHARE = 0.5
"""... if it is there in this share of the frames that show the object."""


def doubts(tracks: PointTracks, label: Int[np.ndarray, " P"], maps: UInt8[np.ndarray, "T H W"], video: Video) -> list[str]:
    """A sentence for each doubt."""
    return [*_strays(tracks, label, video), *_pieces(maps)]


def _strays(tracks: PointTracks, label: Int[np.ndarray, " P"], video: Video) -> list[str]:
    n_frames = tracks.visible.shape[1]
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    groups = [np.flatnonzero(label == g) for g in range(int(label.max()) + 1)]
    links = neighbour_links(xy_px, tracks.visible, max(1, n_frames // 8))
    if not len(links):
        return []
    test = RigidityTest(xy_px, tracks.visible, (), NOISE_PX)
    said = []
    for stray in strays(test, groups, links, np.ones(len(links), bool)):
        if stray.gain < DOUBTFUL_GAIN:
            continue
        visible = tracks.visible[stray.members]
        frames = np.flatnonzero(visible.any(0))
        t = int(visible.sum(0).argmax())
        x, y = np.median(tracks.xy_px[stray.members[visible[:, t]], t], axis=0)
        said.append(
            f"something near ({x:.0f}, {y:.0f}) px in frame {t} (frames {frames[0]} to {frames[-1]}, {len(stray.members)} "
            "tracks) fits no motion that was found: a mover may be missing there; check overlay.mp4, correct with a click"
        )
    return said


def _pieces(maps: UInt8[np.ndarray, "T H W"]) -> list[str]:
    """Objects that are in two separate pieces most of the time: behind something, or two that move alike."""
    import cv2

    said = []
    for g in range(1, int(maps.max()) + 1):
        shown, apart = 0, 0
        for labels in maps:
            if not (labels == g).any():
                continue
            _, _, stats, _ = cv2.connectedComponentsWithStats((labels == g).astype(np.uint8), connectivity=8)
            areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
            shown += 1
            apart += len(areas) > 1 and areas[1] >= PART_SHARE * areas[0]
        if apart >= APART_SHARE * max(shown, 1):
            said.append(
                f"object {g} is in two pieces in {apart} of {shown} frames: something stands in front of it, or two objects "
                "that move alike are taken for one; check overlay.mp4, correct with clicks"
            )
    return said
