"""Click-free motion segmentation, from optical flow to label maps (DESIGN section 4)."""

from typing import TYPE_CHECKING

import numpy as np

from pipelines.artifacts import Flow, Labels, Video
from pipelines.segmentation.clustering import ClusteringOptions, cluster_tracks
from pipelines.segmentation.cuts import refuse_cuts
from pipelines.segmentation.dense import DenseOptions, dense_labels
from pipelines.segmentation.grid_tracks import PointTracks, chain
from pipelines.segmentation.returns import link_returns
from pipelines.stage import StageContext

if TYPE_CHECKING:
    from pipelines.segment import SegmentConfig

MIN_TRACK_FRAMES = 6
GRID_SHARE = 0.6
"""Share of the tracks that start in the first frame, roughly; the others start where the view becomes free."""


def segment_by_motion(config: "SegmentConfig", *, video: Video, flow: Flow, context: StageContext) -> Labels:
    """Label maps of the objects that move on their own.

    Raises InputError: a cut in the video.
    """
    refuse_cuts(video, flow)
    rng = np.random.default_rng(config.seed)
    tracks = _spread_tracks(video, flow, config.max_tracks)
    label = cluster_tracks(
        tracks,
        width=float(video.width),
        height=float(video.height),
        options=ClusteringOptions(),
        n_groups=None if config.objects is None else config.objects + 1,
        rng=rng,
    )
    if config.objects is None:
        label, notes = link_returns(video, tracks, label)
        for note in notes:
            context.progress.note(note)
    options = DenseOptions()
    with context.progress.task("segment", options.rounds * video.n_frames) as advance:
        maps = dense_labels(video, flow, tracks, label, options, advance)
    names = ("background", *(f"object {k}" for k in range(1, int(label.max()) + 1)))
    if len(names) == 1:
        context.progress.note("nothing moves on its own: the whole video is background (K = 1)")
    return Labels(maps, names)


def _spread_tracks(video: Video, flow: Flow, max_tracks: int) -> PointTracks:
    """At most `max_tracks` tracks, evenly taken from all that last long enough."""
    tracks = chain(
        flow,
        n_frames=video.n_frames,
        width=video.width,
        height=video.height,
        spacing_px=float(np.sqrt(video.width * video.height / (GRID_SHARE * max_tracks))),
        min_frames=min(MIN_TRACK_FRAMES, video.n_frames),
    )
    n = len(tracks.visible)
    return tracks if n <= max_tracks else tracks.chosen(np.linspace(0, n - 1, max_tracks).round().astype(int))
