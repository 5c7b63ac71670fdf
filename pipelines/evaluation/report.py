"""All comparisons of one scene with its truth, as tables."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from pipelines.artifacts import Labels, Samples, Sfm, SfmStatus
from pipelines.errors import MissingDependencyError, OsnError, ReconstructionError
from pipelines.evaluate import EvaluateConfig, EvaluatedScene
from pipelines.evaluation import baselines, covisibility, perceptual, protocol, valid_set, views
from pipelines.evaluation.alignment import Alignment, align
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.views import Perceptual, TrueView
from pipelines.progress import Progress
from pipelines.scene.evidence import AloneMaps

_ACCEPTED_SCORE = 0.5
_MAPS_WIDTH_PX, _MAPS_FRAMES = 128, 12
"""Size of the objects' own depth maps that two of the baselines need."""


def compare(
    config: EvaluateConfig,
    *,
    scene: EvaluatedScene,
    samples: Samples,
    sfm: Sfm,
    labels: Labels,
    truth: GroundTruth,
    progress: Progress,
) -> dict[str, Any]:
    """Tables: `novel_views`, `valid_set`, `objects`, `notes` (what could not be measured, and why). NaN becomes None.

    Raises InputError: the truth is of another video.
    """
    notes: list[str] = []
    tables: dict[str, Any] = {"truth": str(truth.folder), "frames": truth.n_frames, "samples": len(samples.log_scale)}
    try:
        _refuse_assumed_world(sfm)
        alignment = align(scene.object_ids, scene.cam_from_obj, scene.registered, labels, truth)
    except ReconstructionError as error:
        return tables | {"objects": coverage(scene, sfm), "notes": [{"note": str(error)}]}
    tables["objects"] = coverage(scene, sfm, alignment)
    if missing := sorted(set(range(truth.n_objects)) - set(alignment.true_labels)):
        notes.append(f"no counterpart in the scene for the true objects {missing}: they count as errors in every view")
    tables["novel_views"] = _noted(notes, lambda: novel_views(config, scene, samples, alignment, truth, progress, notes))
    tables["valid_set"] = _noted(notes, lambda: valid_set_scores(config, scene, alignment, truth))
    return _without_nan(tables | {"notes": [{"note": note} for note in notes]})


def _refuse_assumed_world(sfm: Sfm) -> None:
    if sfm.objects[0].status is SfmStatus.ASSUMED_DEPTH:
        raise ReconstructionError("the background's depth is assumed (no parallax): there is no common world to compare in")


def _noted(notes: list[str], make: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A table, or an empty one and a note on why."""
    try:
        return make()
    except OsnError as error:
        notes.append(str(error))
        return []


def coverage(scene: EvaluatedScene, sfm: Sfm, alignment: Alignment | None = None) -> list[dict[str, Any]]:
    """Per object: how it was reconstructed, in how many frames, and how wrong its motion is."""
    rows = []
    for model in sfm.objects:
        row: dict[str, Any] = {
            "object": model.object_id,
            "status": str(model.status),
            "frames": int(model.registered.sum()),
            "of": len(model.registered),
            "points": len(model.points),
            "truth": None if alignment is None else alignment.true_of.get(model.object_id),
            "rotation_deg": None,
            "position_percent": None,
            "true_log_scale": None,
        }
        column = scene.object_ids.index(model.object_id) if model.object_id in scene.object_ids else None
        if alignment is not None and column in alignment.columns:
            pose = alignment.poses[alignment.columns.index(column)]
            row["rotation_deg"], row["position_percent"] = pose.rotation_deg, 100 * pose.position
            row["true_log_scale"] = float(alignment.true_log_scale[column])
        rows.append(row)
    return rows


def novel_views(
    config: EvaluateConfig,
    scene: EvaluatedScene,
    samples: Samples,
    alignment: Alignment,
    truth: GroundTruth,
    progress: Progress,
    notes: list[str],
) -> list[dict[str, Any]]:
    """Held-out views: the best of N samples, then the baselines."""
    usable = scene.registered[0]
    full = views.true_views(truth, config.n_views, config.width_px, usable)
    if not full:
        notes.append("the truth has no held-out view at a frame with a camera pose")
        return []
    if config.covisible:
        full = _with_covisibility(full, truth)
    metric = _perceptual(notes)
    distance = protocol.scale_distance(samples.log_scale, alignment.true_log_scale)
    generator = np.random.default_rng(config.seed)
    chosen = protocol.candidates(distance, config.closest, config.lucky, config.lucky_of, generator)
    small = views.true_views(truth, config.n_views, min(config.screening_width_px, truth.width), usable)
    combinations: list[tuple[str, Float[np.ndarray, K], float]] = []
    with progress.task("compare", len(chosen) * len(small)) as advance:
        quality = [_mean_psnr(scene, alignment, small, samples.scale[i], advance) for i in chosen]
    if len(chosen):
        best = chosen[int(np.argmax(quality))]
        combinations.append((f"best of {len(samples.log_scale)}", samples.log_scale[best], float(distance[best])))
    if config.baselines:
        combinations += _baselines(config, scene, alignment, notes)
    rows = []
    with progress.task("novel views", len(combinations) * len(full)) as advance:
        for name, log_scale, off in combinations:
            scores = []
            for view in full:
                rendered = views.render_like(scene, alignment, view, np.exp(log_scale))
                scores.append(views.compare_view(rendered, view, alignment.true_of, metric))
                advance(1)
            rows.append({"scales": name, **views.summarised(scores), "log_distance": off, "views": len(full)})
    return rows


def _mean_psnr(
    scene: EvaluatedScene,
    alignment: Alignment,
    small: Sequence[TrueView],
    scale: Float[np.ndarray, "K"],
    advance: Callable[[int], None],
) -> float:
    scores = []
    for view in small:
        rendered = views.render_like(scene, alignment, view, scale)
        scores.append(views.compare_view(rendered, view, alignment.true_of))
        advance(1)
    return views.summarised(scores)["psnr_db"]


def _baselines(
    config: EvaluateConfig, scene: EvaluatedScene, alignment: Alignment, notes: list[str]
) -> list[tuple[str, Float[np.ndarray, "K"], float]]:
    """Name, log scales, and distance to the true ones of each single solution that can be had."""
    maps = _maps(scene)
    makers: dict[str, Callable[[], Float[np.ndarray, K]]] = {"ones": lambda: baselines.ones(maps)}
    zone = scene.zone
    if zone is not None:
        makers["zone centre"] = lambda: baselines.zone_centre(zone, np.random.default_rng(config.seed))
        makers["contact"] = lambda: baselines.contact(zone)
    folder = config.depth_prior
    if folder is not None:
        makers["depth prior"] = lambda: baselines.depth_prior(maps, baselines.read_depth_prior(Path(folder), maps))
    found = []
    for name, make in makers.items():
        try:
            log_scale = make()
        except OsnError as error:
            notes.append(f"baseline {name}: {error}")
            continue
        off = protocol.scale_distance(log_scale[None], alignment.true_log_scale)[0]
        found.append((name, log_scale, float(off)))
    return found


def _maps(scene: EvaluatedScene) -> AloneMaps:
    posed = np.flatnonzero(scene.registered[0])
    frames = posed[np.unique(np.linspace(0, len(posed) - 1, min(_MAPS_FRAMES, len(posed))).round().astype(int))]
    return scene.alone_maps(width=min(_MAPS_WIDTH_PX, scene.width), frames=frames.tolist())


def _with_covisibility(full: Sequence[TrueView], truth: GroundTruth) -> list[TrueView]:
    import dataclasses

    import cv2

    def judged(view: TrueView) -> TrueView:
        height, width = view.rgb.shape[:2]
        resized = (
            cv2.resize(truth.image_train(t), (width, height), interpolation=cv2.INTER_AREA) for t in range(truth.n_frames)
        )
        rgb = np.round(255 * view.rgb).astype(np.uint8)
        mask = covisibility.covisible(rgb, resized, covisibility.dis_flow)
        return dataclasses.replace(view, mask=mask if view.mask is None else mask & view.mask)

    return [judged(view) for view in full]


def _perceptual(notes: list[str]) -> Perceptual | None:
    try:
        return perceptual.lpips_metric()
    except MissingDependencyError as error:
        notes.append(str(error))
        return None


def valid_set_scores(
    config: EvaluateConfig, scene: EvaluatedScene, alignment: Alignment, truth: GroundTruth
) -> list[dict[str, Any]]:
    """Precision, recall and IoU of the zone, the network, and both, over the objects that have a true counterpart."""
    if len(alignment.columns) < 2:
        return []
    columns, labels = list(alignment.columns), list(alignment.true_labels)
    rays = _rays_of(valid_set.telling_rays(truth, config.max_rays, config.seed), labels)
    true_log_scale = alignment.true_log_scale[columns]
    rest = (
        scene.zone.intervals.mean(1) if scene.zone is not None and not scene.zone.is_empty else np.zeros(len(scene.object_ids))
    )

    def completed(log_scale: Float[np.ndarray, "H k"]) -> Float[np.ndarray, "H K"]:
        """Objects without a counterpart stay at the middle of their interval."""
        everything = np.tile(rest, (len(log_scale), 1))
        everything[:, columns] = log_scale
        return everything

    zone, network = scene.zone, scene.network
    sets: dict[str, Callable[[Float[np.ndarray, "H K"]], Bool[np.ndarray, H]]] = {}
    if zone is not None:
        sets["zone"] = zone.contains
    if network is not None:
        sets["network"] = lambda x: network.score(x) >= _ACCEPTED_SCORE
    if zone is not None and network is not None:
        sets["zone and network"] = lambda x: zone.contains(x) & (network.score(x) >= _ACCEPTED_SCORE)
    rows = []
    for name, member in sets.items():
        score = valid_set.score_membership(
            lambda x, member=member: member(completed(x)),  # type: ignore[misc]
            rays,
            true_log_scale,
            n=config.combinations,
            generator=np.random.default_rng(config.seed),
            threshold=config.agreement,
        )
        rows.append({"set": name, **asdict(score), "objects": len(columns)})
    return rows


def _rays_of(rays: valid_set.TellingRays, true_labels: Sequence[int]) -> valid_set.TellingRays:
    """The rays as they concern some objects only: the others are taken away."""
    position = {label: i for i, label in enumerate(true_labels)}
    kept = np.isin(rays.labels, list(position))
    labels = np.array([position[label] for label in rays.labels[kept].tolist()], np.int64)
    return valid_set.TellingRays(rays.depth_alone[kept][:, list(true_labels)], labels)


def _without_nan(content: Any) -> Any:
    """The same, ready for strict JSON: numbers that are not finite become None."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return content
