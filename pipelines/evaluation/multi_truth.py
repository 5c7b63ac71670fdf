"""The multi-truth protocol: one video, many true scenes.

A synthetic scene scaled object by object about the filming camera films the same video (DESIGN section 2), so each valid
combination is a truth of its own, with its own held-out views. A method that gives one scene is right for one of them at
best; samples should hold something near each. For every truth the best of N is taken, and mean and deviation are reported.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Float

from pipelines.errors import ReconstructionError
from pipelines.evaluation import protocol, valid_set, views
from pipelines.evaluation.alignment import Alignment
from pipelines.evaluation.views import TrueView
from pipelines.ground_truth import GroundTruth
from pipelines.progress import Progress, Silent
from pipelines.scenery import SceneLike, ViewLike

_DRAWS = 20_000
Rescaled = Callable[[TrueView, Float[np.ndarray, " K"]], TrueView]
"""The same held-out view in the scene with these scales, relative to the true ones."""


def true_combinations(truth: GroundTruth, n: int, generator: np.random.Generator) -> Float[np.ndarray, "n K"]:
    """Log scales, relative to the given truth, of n other scenes that film the same video.

    Raises ReconstructionError where fewer than n of the drawn combinations are valid.
    """
    rays, few = valid_set.telling_rays(truth), valid_set.telling_rays(truth, max_rays=20_000)
    drawn = valid_set.draw_log_scales(_DRAWS, truth.n_objects, generator)
    found = []
    for part in np.array_split(drawn, 20):
        # What a few rays call far from valid is not looked at on all of them.
        agreement = valid_set.true_agreement(few.depth_alone, few.labels, np.exp(part))
        part = part[valid_set.is_valid(agreement, 1 - 2 * (1 - valid_set.VALID_AGREEMENT))]
        agreement = valid_set.true_agreement(rays.depth_alone, rays.labels, np.exp(part))
        found.append(part[valid_set.is_valid(agreement)])
        if sum(map(len, found)) >= n:
            return np.concatenate(found)[:n]
    raise ReconstructionError(f"only {sum(map(len, found))} of {_DRAWS} combinations explain the video, not {n}: ask for fewer")


def multi_truth(
    scene: SceneLike,
    alignment: Alignment,
    solutions: Mapping[str, Float[np.ndarray, "_ K"]],
    views_at: tuple[list[TrueView], list[TrueView]],
    combinations: Float[np.ndarray, "m L"],
    rescaled: Rescaled,
    *,
    n_candidates: int = 5,
    progress: Progress | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Best of each solution's samples against each true scene: mean and deviation of every measure over the scenes.

    solutions: by name, log scales in the scene's units; one combination where a method knows only one.
    views_at: held-out views at full size, and the same ones at the size at which the candidates are compared.
    combinations: true scenes, by the truth's labels (`true_combinations`).
    """
    full, small = views_at

    @cache
    def rendered(name: str, sample: int, at_full_size: bool) -> list[ViewLike]:
        """The cameras are the same for all truths, so each image is made once."""
        scale = np.exp(solutions[name][sample])
        return [views.render_like(scene, alignment, view, scale) for view in (full if at_full_size else small)]

    rows: dict[str, list[dict[str, float]]] = {name: [] for name in solutions}
    with (progress or Silent()).task("true scenes", len(combinations)) as advance:
        for combination in combinations:
            target = alignment.true_log_scale.copy()
            target[list(alignment.columns)] += combination[list(alignment.true_labels)]
            true_full = true_small = [rescaled(view, np.exp(combination)) for view in full]
            if small is not full:
                true_small = [rescaled(view, np.exp(combination)) for view in small]
            for name, log_scale in solutions.items():
                distance = protocol.scale_distance(log_scale, target)
                candidates = np.argsort(distance, kind="stable")[:n_candidates].tolist()
                best = candidates[0]
                if len(candidates) > 1:
                    screened = [_score(alignment, rendered(name, i, small is full), true_small) for i in candidates]
                    best = candidates[protocol.best(screened)]
                score = _score(alignment, rendered(name, best, True), true_full)
                rows[name].append(score | {"log_distance": float(distance[best])})
            advance(1)
    return {name: protocol.mean_and_deviation(scores) for name, scores in rows.items()}


def _score(alignment: Alignment, rendered: list[ViewLike], truths: list[TrueView]) -> dict[str, float]:
    return views.summarised([views.compare_view(r, t, alignment.true_of) for r, t in zip(rendered, truths, strict=True)])


def rescaled_by(oracle: SceneLike) -> Rescaled:
    """Views of the other true scenes, rendered by a perfect scene in true units (`pipelines.synthetic.oracle`)."""

    def rescaled(view: TrueView, scale: Float[np.ndarray, " K"]) -> TrueView:
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


def rescaled_truth(truth: GroundTruth) -> Rescaled:
    """The same from a synthetic scene's folder alone.

    Raises InputError where the folder does not say how its scene is made: the truth's images show one scene only.
    """
    from pipelines.synthetic import load_world
    from pipelines.synthetic.oracle import OracleScene

    return rescaled_by(OracleScene(load_world(truth.folder), np.ones(truth.n_objects)))
