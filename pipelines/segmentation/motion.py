"""Click-free motion segmentation, from optical flow to label maps (DESIGN section 4)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from pipelines.artifacts import Flow, Labels, Video
from pipelines.errors import InputError
from pipelines.segmentation.bodies import verified
from pipelines.segmentation.clustering import ClusteringOptions, cluster_tracks
from pipelines.segmentation.cuts import refuse_cuts
from pipelines.segmentation.dense import DenseOptions, dense_labels
from pipelines.segmentation.doubts import doubts
from pipelines.segmentation.focus import FocusOptions, focused
from pipelines.segmentation.grid_tracks import PointTracks, chain
from pipelines.segmentation.grouping import GroupingRules
from pipelines.segmentation.returns import link_returns
from pipelines.stage import StageContext

if TYPE_CHECKING:
    from pipelines.segment import SegmentConfig

MIN_TRACK_FRAMES = 6
GRID_SHARE = 0.6
"""Share of the tracks that start in the first frame, roughly; the others start where the view becomes free."""
FINER = 4
"""How many times more tracks the second look chooses from."""
MIN_FINE_TRACK_FRAMES = 5
MIN_TRACKS = 12
"""Fewer tracks tell no motions apart, and none of them may be right: water and leaves move on their own everywhere."""
FOCUSED_CLUSTERING = ClusteringOptions(first_clusters=50, rules=GroupingRules(min_tracks=16))


def segment_by_motion(config: "SegmentConfig", *, video: Video, flow: Flow, context: StageContext) -> Labels:
    """Label maps of the objects that move on their own.

    Raises InputError: a cut in the video, or hardly anything in it that can be followed.
    """
    refuse_cuts(video, flow)
    tracks, label = _clustered(config, video, flow)
    if config.objects is None:
        label, notes = link_returns(video, tracks, label, np.random.default_rng(config.seed))
        for note in notes:
            context.progress.note(note)
    options = DenseOptions()
    with context.progress.task("segment", options.rounds * video.n_frames) as advance:
        maps = dense_labels(video, flow, tracks, label, options, advance)
    for note in doubts(tracks, label, maps, video):
        context.progress.note(note)
    names = ("background", *(f"object {k}" for k in range(1, int(label.max()) + 1)))
    if len(names) == 1:
        context.progress.note("nothing moves on its own: the whole video is background (K = 1)")
    return Labels(maps, names)


def _clustered(config: "SegmentConfig", video: Video, flow: Flow) -> tuple[PointTracks, Int[np.ndarray, " P"]]:
    """Tracks and their groups: found among evenly spread tracks first, then among tracks that crowd where something moves."""
    rng = np.random.default_rng(config.seed)
    n_groups = None if config.objects is None else config.objects + 1
    size = {"width": float(video.width), "height": float(video.height)}
    spread = _chained(video, flow, config.max_tracks, MIN_TRACK_FRAMES)
    n = len(spread.visible)
    if n > config.max_tracks:
        spread = spread.chosen(np.linspace(0, n - 1, config.max_tracks).round().astype(int))
    # It only has to tell the background from the rest.
    first = cluster_tracks(spread, **size, options=ClusteringOptions(starts=1), n_groups=n_groups, rng=rng)
    fine = _chained(video, flow, FINER * config.max_tracks, MIN_FINE_TRACK_FRAMES)
    tracks = focused(fine, spread, first == 0, config.max_tracks, FocusOptions(), rng)
    if len(tracks.visible) < MIN_TRACKS:
        raise InputError(
            f"hardly anything in {video.source} can be followed for {MIN_TRACK_FRAMES} frames ({n} points): use a part that "
            "shows solid things (not just water, leaves or blur), with more frames per second where it was thinned out "
            "(--max-frames, --fps)"
        )
    label = cluster_tracks(tracks, **size, options=FOCUSED_CLUSTERING, n_groups=n_groups, rng=rng)
    return tracks, label if n_groups is not None else verified(tracks, label, **size, rng=rng)


def _chained(video: Video, flow: Flow, n_tracks: int, min_frames: int) -> PointTracks:
    """Evenly spread tracks, roughly so many."""
    return chain(
        flow,
        n_frames=video.n_frames,
        width=video.width,
        height=video.height,
        spacing_px=float(np.sqrt(video.width * video.height / (GRID_SHARE * n_tracks))),
        min_frames=min(min_frames, video.n_frames),
    )
