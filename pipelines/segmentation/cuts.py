"""Cuts: places where the film jumps to another shot, across which nothing can be followed."""

import numpy as np
from jaxtyping import Int

from pipelines.artifacts import Flow, Video
from pipelines.errors import InputError

CUT_SHARE = 0.15
"""Share of consistent flow below which two adjacent frames may belong to different shots ..."""
CUT_RELATIVE = 0.35
"""... if it is also below this part of what is usual in the video."""
MOST_TOLD = 10
"""So many cuts are named."""


def refuse_cuts(video: Video, flow: Flow) -> None:
    """Raises InputError: flow between two adjacent frames is inconsistent almost everywhere, as across a cut.

    The error names all cuts, in seconds from the beginning of the footage, and the options that use the longest shot.
    """
    share = np.array([flow.read(t, t + 1)[1].mean() for t in range(video.n_frames - 1)])
    if len(share) < 3:
        return
    if np.median(share) < CUT_SHARE:
        raise InputError(
            f"the frames of {video.source} hardly follow each other (the same things are found again in {np.median(share):.0%} "
            "of the picture): use a film, with more frames per second where it was thinned out (--max-frames, --fps)"
        )
    cuts = np.flatnonzero(share < min(CUT_SHARE, CUT_RELATIVE * float(np.median(share))))
    if len(cuts):
        raise InputError(_advice(video, cuts))


def _advice(video: Video, cuts: Int[np.ndarray, " n"]) -> str:
    """All cuts, and how to use the longest shot. cuts: the last frame before each."""
    first, end = np.concatenate([[0], cuts + 1]), np.concatenate([cuts + 1, [video.n_frames]])
    longest = int(np.argmax(end - first))
    # A cut lies anywhere between two frames where the film was thinned out, so a shot ends with its last frame.
    from_s, to_s = (video.start_s + t / video.fps for t in (first[longest], end[longest] - 1))
    options = f"--start {np.floor(100 * from_s) / 100:.2f} --end {np.floor(100 * to_s) / 100 + 0.01:.2f}"
    at_s = [f"{video.start_s + (t + 1) / video.fps:.2f}" for t in cuts[:MOST_TOLD]]
    more = f" and {len(cuts) - MOST_TOLD} more" if len(cuts) > MOST_TOLD else ""
    return (
        f"{video.source} has {'a cut' if len(cuts) == 1 else f'{len(cuts)} cuts'}, at {', '.join(at_s)}{more} s: use one shot "
        f"only; the longest has {end[longest] - first[longest]} frames: {options}"
    )
