"""Second thoughts about groups of tracks: what rests, and what is two bodies.

Groups form by short spans of time, which all tracks offer. Slow differences show over long ones: a near pillar that was taken
for a mover fits the background's motion still, and two movers that were taken for one do not fit one rigid motion any more.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.segmentation.affinity import frame_gaps, motion_affinity
from pipelines.segmentation.grid_tracks import PointTracks
from pipelines.segmentation.rigidity import RigidityTest, frame_triplets, misfit
from pipelines.segmentation.spectral import embedding, sparsified, spectral_clusters

NOISE_PX = 0.1
PER_STRIDE = 8
MIN_SPANNING, MIN_TRIPLETS = 6, 2
"""Tracks of each group that a triplet of frames must show, and such triplets, for a span to be tested."""
MIN_POSSIBLE = 4
"""A span is tested only where the clip has room for so many triplets."""
REST_STRIDES = (6, 9, 12)
RESTS = 1.6
"""Misfit of the background's and a group's common motion over every such span, up to which the group rests. Movers start at 3,
but one that keeps a straight course along the camera's (a vehicle that is followed) has none: it looks like a thing at rest
behind the camera. So the background's motion alone must predict the group, too:"""
PREDICTED_STRIDE, PREDICTED = 2, 4.0
"""Misfit of the prediction over short spans, where it is reliable. Movers start at 5."""
PARALLAX_PX = 1.0
"""A camera that only turns explains every mover as a near thing at rest, so nothing is taken for one unless the background's
tracks miss a homography by this much (px of a frame 400 px wide, upper quartile)."""
BODY_STRIDES = (2, 4, 6, 9, 12)
TWO_BODIES = 1.8
"""Misfit of the common motion of a group's two halves over any such span, from which they are two bodies ..."""
TWO_BODIES_SOON = 1.45
"""... if it is this much over the shortest span already. The halves of one body part over long spans only, which few tracks
survive, and most of these at outlines. Over two frames those of one body reached 1.34 (1.59 where many tracks were smeared
background, but then 1.75 at worst over any span), those of two bodies started at 1.54."""
MIN_SPLIT_TRACKS = 24
GAP_STRIDES, GAPS_PER_STRIDE, HYPOTHESES, PREFERRED = (1, 3, 6, 10), 12, 200, 0.1


def verified(
    tracks: PointTracks, label: Int[np.ndarray, " P"], *, width: float, height: float, rng: np.random.Generator
) -> Int[np.ndarray, " P"]:
    """Labels in which what rests belongs to the background (0), and two bodies are two groups. No numbers are left out."""
    label = label.copy()
    xy_px = np.where(tracks.visible[..., None], tracks.xy_px, 0.0)
    if _has_parallax(xy_px, tracks.visible, label == 0, width):
        for g in range(int(label.max()), 0, -1):
            if _rests(xy_px, tracks.visible, label, g):
                label[label == g] = 0
                label[label > g] -= 1
    centred = (xy_px - np.array([width, height]) / 2) / width
    for g in range(1, int(label.max()) + 1):
        pieces = _split(centred, xy_px, tracks.visible, np.flatnonzero(label == g), rng)
        for piece in _rejoined(xy_px, tracks.visible, pieces)[1:]:
            label[piece] = int(label.max()) + 1
    return label


def _split(
    centred: Float[np.ndarray, "P T 2"],
    xy_px: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    members: Int[np.ndarray, " n"],
    rng: np.random.Generator,
) -> list[Int[np.ndarray, " _"]]:
    """The group cut in two, again and again, as long as no rigid motion explains both parts."""
    if len(members) < MIN_SPLIT_TRACKS:
        return [members]
    half = halves(centred[members], visible[members], rng)
    parts = [members[half == 0], members[half == 1]]
    small = min(map(len, parts)) < MIN_SPLIT_TRACKS // 2
    if small or _excess(xy_px, visible, parts[0], parts[1], untested=0.0) <= 1:
        return [members]
    return [piece for part in parts for piece in _split(centred, xy_px, visible, part, rng)]


def _rejoined(
    xy_px: Float[np.ndarray, "P T 2"], visible: Bool[np.ndarray, "P T"], pieces: list[Int[np.ndarray, " _"]]
) -> list[Int[np.ndarray, " _"]]:
    """Pieces of the same body, which cuts in two have left apart, as one; the largest first."""
    pieces = sorted(pieces, key=len, reverse=True)
    while len(pieces) > 1:
        pairs = [(a, b) for a in range(len(pieces)) for b in range(a + 1, len(pieces))]
        found = [_excess(xy_px, visible, pieces[a], pieces[b], untested=np.inf) for a, b in pairs]
        a, b = pairs[int(np.argmin(found))]
        if min(found) > 1:
            break
        pieces[a] = np.concatenate([pieces[a], pieces.pop(b)])
    return sorted(pieces, key=len, reverse=True)


def _excess(
    xy_px: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    first: Int[np.ndarray, " m"],
    other: Int[np.ndarray, " n"],
    untested: float,
) -> float:
    """Above 1: two bodies. The misfit over their thresholds, at the shortest span and at the worst."""
    soon = misfit_soon(xy_px, visible, first, other, untested)
    worst = _misfit(xy_px, visible, first, other, BODY_STRIDES, untested)
    return min(soon / TWO_BODIES_SOON, worst / TWO_BODIES)


def misfit_soon(
    xy_px: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    first: Int[np.ndarray, " m"],
    other: Int[np.ndarray, " n"],
    untested: float = 0.0,
) -> float:
    """Misfit of the common motion of two groups over the shortest span; `untested` when nothing shows both."""
    return _misfit(xy_px, visible, first, other, BODY_STRIDES[:1], untested)


def _misfit(
    xy_px: Float[np.ndarray, "P T 2"],
    visible: Bool[np.ndarray, "P T"],
    first: Int[np.ndarray, " m"],
    other: Int[np.ndarray, " n"],
    strides: tuple[int, ...],
    untested: float = 0.0,
) -> float:
    """Misfit of the common motion of two groups at the worst of the strides; `untested` when none shows both."""
    found = []
    groups = [first, other]
    for stride in strides:
        possible = frame_triplets(visible.shape[1], (stride,), PER_STRIDE)
        triplets = tuple(
            triplet for triplet in possible if all(visible[group][:, triplet].all(1).sum() >= MIN_SPANNING for group in groups)
        )
        if len(possible) < MIN_POSSIBLE or len(triplets) < MIN_TRIPLETS:
            continue
        test = RigidityTest(xy_px, visible, triplets, NOISE_PX)
        found.append(misfit(test, groups, groups, [test.motions(group) for group in groups]))
    return max((value for value in found if np.isfinite(value)), default=untested)


def _rests(xy_px: Float[np.ndarray, "P T 2"], visible: Bool[np.ndarray, "P T"], label: Int[np.ndarray, " P"], g: int) -> bool:
    ground, group = np.flatnonzero(label == 0), np.flatnonzero(label == g)
    if _misfit(xy_px, visible, ground, group, REST_STRIDES, untested=np.inf) > RESTS:
        return False
    test = RigidityTest(xy_px, visible, frame_triplets(visible.shape[1], (PREDICTED_STRIDE,), PER_STRIDE), NOISE_PX)
    return misfit(test, [ground], [group], [test.motions(group)]) <= PREDICTED


def _has_parallax(
    xy_px: Float[np.ndarray, "P T 2"], visible: Bool[np.ndarray, "P T"], background: Bool[np.ndarray, " P"], width: float
) -> bool:
    """Whether no homography explains the background between frames a third of the clip apart (median over pairs)."""
    import cv2

    n_frames = visible.shape[1]
    stride, missed = max(1, n_frames // 3), []
    for t in range(0, n_frames - stride, max(1, stride // 3)):
        both = background & visible[:, t] & visible[:, t + stride]
        if both.sum() < 16:
            continue
        source, target = xy_px[both, t], xy_px[both, t + stride]
        homography, _ = cv2.findHomography(source, target, cv2.LMEDS)
        if homography is not None:
            mapped = cv2.perspectiveTransform(source[:, None], homography)[:, 0]
            missed.append(np.quantile(np.linalg.norm(mapped - target, axis=1), 0.75))
    return bool(missed) and float(np.median(missed)) > PARALLAX_PX * width / 400


def halves(
    centred: Float[np.ndarray, "n T 2"], visible: Bool[np.ndarray, "n T"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """The two parts of a group that prefer different motions most."""
    affinity = motion_affinity(
        centred,
        visible,
        frame_gaps(visible.shape[1], GAP_STRIDES, GAPS_PER_STRIDE),
        hypotheses=HYPOTHESES,
        preferred=PREFERRED,
        rng=rng,
    )
    _, vectors = embedding(sparsified(affinity, max(8, min(40, len(centred) // 10))), 2)
    return spectral_clusters(vectors, 2, rng)
