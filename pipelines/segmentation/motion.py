"""Click-free motion segmentation, from optical flow to label maps (DESIGN section 4)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, UInt8

from pipelines.artifacts import Flow, Labels, Video
from pipelines.segmentation.affinity import frame_gaps, motion_affinity
from pipelines.segmentation.grid_tracks import PointTracks, chain
from pipelines.segmentation.spectral import embedding, sparsified, spectral_clusters
from pipelines.stage import StageContext

if TYPE_CHECKING:
    from pipelines.segment import SegmentConfig

MIN_TRACK_FRAMES = 5


def segment_by_motion(config: "SegmentConfig", *, video: Video, flow: Flow, context: StageContext) -> Labels:
    """Label maps of the objects that move on their own."""
    rng = np.random.default_rng(config.seed)
    spacing_px = np.sqrt(video.width * video.height / config.max_tracks)
    tracks = chain(
        flow,
        n_frames=video.n_frames,
        width=video.width,
        height=video.height,
        spacing_px=spacing_px,
        min_frames=min(MIN_TRACK_FRAMES, video.n_frames),
    )
    longest = np.argsort(-tracks.visible.sum(1), kind="stable")[: config.max_tracks]
    tracks = tracks.chosen(np.sort(longest))
    cluster = cluster_tracks(config, tracks, width=video.width, height=video.height, rng=rng)
    maps = _nearest_labels(tracks, cluster, video)
    names = ("background", *(f"object {k}" for k in range(1, int(cluster.max()) + 1)))
    return Labels(maps, names)


def cluster_tracks(
    config: "SegmentConfig", tracks: PointTracks, *, width: int, height: int, rng: np.random.Generator
) -> Int[np.ndarray, "P"]:
    """Cluster of each track, the largest first."""
    xy = (np.nan_to_num(tracks.xy_px) - np.array([width, height]) / 2) / width
    gaps = frame_gaps(xy.shape[1], config.strides, config.gaps_per_stride)
    affinity = motion_affinity(xy, tracks.visible, gaps, hypotheses=config.hypotheses, preferred=config.preferred, rng=rng)
    values, vectors = embedding(sparsified(affinity, max(8, len(xy) // 10)), config.max_objects + 2)
    n_clusters = config.objects + 1 if config.objects is not None else 1 + int(np.argmax(values[:-1] - values[1:]))
    cluster = spectral_clusters(vectors, n_clusters, rng)
    order = np.argsort(-np.bincount(cluster, minlength=n_clusters), kind="stable")
    return np.argsort(order)[cluster]


def _nearest_labels(tracks: PointTracks, cluster: Int[np.ndarray, "P"], video: Video) -> UInt8[np.ndarray, "T H W"]:
    """Superpixels take the label of most of their pixels, pixels that of the nearest track."""
    from scipy.spatial import cKDTree
    from skimage.segmentation import slic

    from pipelines.geometry import pixel_centres

    centres = pixel_centres(video.width, video.height)
    maps = np.zeros((video.n_frames, video.height, video.width), np.uint8)
    for t in range(video.n_frames):
        seen = tracks.visible[:, t]
        _, nearest = cKDTree(tracks.xy_px[seen, t]).query(centres)
        labels = cluster[seen][nearest]
        regions = slic(video.frame(t), n_segments=1500, compactness=10, start_label=0)
        votes = np.zeros((regions.max() + 1, cluster.max() + 1))
        np.add.at(votes, (regions, labels), 1)
        maps[t] = votes.argmax(1)[regions]
    return maps
