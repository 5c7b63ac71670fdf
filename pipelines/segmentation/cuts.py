"""Cuts: places where the film jumps to another shot, across which nothing can be followed."""

import numpy as np

from pipelines.artifacts import Flow, Video
from pipelines.errors import InputError

CUT_SHARE = 0.15
"""Share of consistent flow below which two adjacent frames may belong to different shots ..."""
CUT_RELATIVE = 0.35
"""... if it is also below this part of what is usual in the video."""


def refuse_cuts(video: Video, flow: Flow) -> None:
    """Raises InputError: flow between two adjacent frames is inconsistent almost everywhere, as across a cut."""
    share = np.array([flow.read(t, t + 1)[1].mean() for t in range(video.n_frames - 1)])
    if len(share) < 3:
        return
    if np.median(share) < CUT_SHARE:
        raise InputError(
            f"the frames of {video.source} hardly follow each other (the same things are found again in {np.median(share):.0%} "
            "of the picture): use a film, with more frames per second where it was thinned out (--max-frames, --fps)"
        )
    worst = int(np.argmin(share))
    if share[worst] < min(CUT_SHARE, CUT_RELATIVE * float(np.median(share))):
        at_s = (worst + 1) / video.fps
        raise InputError(
            f"{video.source} has a cut between frames {worst} and {worst + 1}: use one shot only, with --end {at_s:.2f} "
            f"or --start {at_s:.2f} (seconds from the beginning of the part that is used now)"
        )
