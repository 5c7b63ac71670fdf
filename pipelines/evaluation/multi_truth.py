"""The multi-truth protocol: one video, many true scenes.

A synthetic scene scaled object by object about the filming camera films the same video (DESIGN section 2), so each valid
combination is a truth of its own, with its own held-out views. A method that gives one scene is right for one of them at
best; samples should hold something near each. For every truth the best of N is taken, and mean and deviation are reported.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from pipelines.errors import ReconstructionError
from pipelines.evaluation import protocol, valid_set, views
from pipelines.evaluation.alignment import Alignment
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.views import TrueView
from pipelines.scenery import SceneLike

_DRAWS = 20_000
Rescaled = Callable[[TrueView, Float[np.ndarray, "K"]], TrueView]
"""The same held-out view in the scene with these scales, relative to the true ones."""


def true_combinations(truth: GroundTruth, n: int, generator: np.random.Generator) -> Float[np.ndarray, "n K"]:
    """Log scales, relative to the given truth, of n other scenes that film the same video.

    Raises ReconstructionError where fewer than n of the drawn combinations are valid.
    """
    rays = valid_set.telling_rays(truth, max_rays=20_000)
    drawn = valid_set.draw_log_scales(_DRAWS, truth.n_objects, generator)
    found = []
    for part in np.array_split(drawn, 20):
        agreement = valid_set.true_agreement(rays.depth_alone, rays.labels, np.exp(part))
        found.append(part[valid_set.is_valid(agreement)])
        if sum(map(len, found)) >= n:
            return np.concatenate(found)[:n]
    raise ReconstructionError(f"only {sum(map(len, found))} of {_DRAWS} combinations explain the video, not {n}: ask for fewer")


def multi_truth(
    scene: SceneLike,
    alignment: Alignment,
    log_scale: Float[np.ndarray, "n K"],
    true_views: list[TrueView],
    combinations: Float[np.ndarray, "m L"],
    rescaled: Rescaled,
    *,
    n_candidates: int = 5,
) -> dict[str, dict[str, float]]:
    """Best of the given samples against each true scene: mean and deviation of every measure over the scenes.

    log_scale: the samples, in the scene's units. combinations: true scenes, by the truth's labels (`true_combinations`).
    """
    rows = []
    for combination in combinations:
        target = alignment.true_log_scale.copy()
        target[list(alignment.columns)] += combination[list(alignment.true_labels)]
        distance = protocol.scale_distance(log_scale, target)
        order = np.argsort(distance, kind="stable")[:n_candidates]
        truths = [rescaled(view, np.exp(combination)) for view in true_views]
        scored = [_score(scene, alignment, truths, np.exp(log_scale[i])) for i in order]
        best = int(np.argmax([score["psnr_db"] for score in scored]))
        rows.append(scored[best] | {"log_distance": float(distance[order[best]])})
    return protocol.mean_and_deviation(rows)


def _score(scene: SceneLike, alignment: Alignment, truths: list[TrueView], scale: Float[np.ndarray, "K"]) -> dict[str, float]:
    rendered = [views.render_like(scene, alignment, view, scale) for view in truths]
    return views.summarised([views.compare_view(r, t, alignment.true_of) for r, t in zip(rendered, truths, strict=True)])


def rescaled_by(oracle: SceneLike) -> Rescaled:
    """Views of the other true scenes, rendered by a perfect scene in true units (`pipelines.synthetic.oracle`)."""

    def rescaled(view: TrueView, scale: Float[np.ndarray, "K"]) -> TrueView:
        height, width = view.rgb.shape[:2]
        seen = oracle.render(
            t=view.t,
            scale=scale,
            view_from_world=view.cam_from_world,
            intrinsics=view.intrinsics,
            width=width,
            height=height,
        )
        return replace(view, rgb=seen.rgb, depth=seen.depth, label=seen.label)

    return rescaled
