"""All comparisons of one scene with its truth, as tables."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pipelines.artifacts import Labels, Samples, Sfm, SfmStatus, Video
from pipelines.errors import InputError, MissingDependencyError, OsnError, ReconstructionError
from pipelines.evaluation import baselines, covisibility, multi_truth, perceptual, protocol, valid_set, views
from pipelines.evaluation.alignment import Alignment, align
from pipelines.evaluation.views import Perceptual, TrueView
from pipelines.ground_truth import GroundTruth
from pipelines.json_files import without_nan
from pipelines.meshing.accuracy import mesh_accuracy, object_size, registered, seen_surface
from pipelines.meshing.surfaces import scene_meshes
from pipelines.progress import Progress
from pipelines.scene.evidence import AloneMaps
from pipelines.scene.sampling import LIKELY
from pipelines.scenery import EvaluatedScene, ViewLike
from pipelines.spread import evenly_spread
from pipelines.stage import StageContext

if TYPE_CHECKING:
    from pipelines.evaluate import EvaluateConfig

_MIN_SURFACE_POINTS = 50
"""An object of which the truth shows less has no surface to speak of."""
_MAPS_WIDTH_PX, _MAPS_FRAMES = 128, 12
"""Size of the objects' own depth maps that two of the baselines need."""


def compare(
    config: "EvaluateConfig",
    *,
    scene: EvaluatedScene,
    samples: Samples,
    sfm: Sfm,
    labels: Labels,
    truth: GroundTruth,
    video: Video | None,
    context: StageContext,
) -> tuple[dict[str, Any], list[tuple[TrueView, ViewLike]]]:
    """Tables, NaN being None: `novel_views`, `candidates`, `multi_truth`, `valid_set`, `objects`, `meshes`, and `notes` (what
    could not be measured, and why). And the best sample's views beside the true ones.

    Raises InputError: the truth is of another video.
    """
    notes: list[str] = []
    tables: dict[str, Any] = {"truth": str(truth.folder), "frames": truth.n_frames, "samples": len(samples.log_scale)}
    try:
        _refuse_assumed_world(sfm)
        alignment = align(scene.object_ids, scene.cam_from_obj, scene.registered, labels, truth)
    except ReconstructionError as error:
        return tables | {"objects": coverage(scene, sfm), "notes": [{"note": str(error)}]}, []
    tables["objects"] = coverage(scene, sfm, alignment)
    if missing := sorted(set(range(truth.n_objects)) - set(alignment.true_labels)):
        notes.append(f"no counterpart in the scene for the true objects {missing}: they count as errors in every view")
    compared = _Comparison(config, scene, samples, alignment, truth, context.progress, notes)
    tables["novel_views"] = _noted(notes, compared.novel_views)
    tables["candidates"] = compared.candidates
    if config.truths:
        tables["multi_truth"] = _noted(notes, compared.multi_truth)
    tables["valid_set"] = _noted(notes, lambda: valid_set_scores(config, scene, samples, alignment, truth))
    if config.meshes and video is not None:
        tables["meshes"] = _noted(notes, lambda: mesh_scores(config, scene, labels, video, alignment, truth, context))
    return without_nan(tables | {"notes": [{"note": note} for note in notes]}), compared.best_views


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


class _Comparison:
    """Rendered views of one scene against the truth."""

    def __init__(
        self,
        config: "EvaluateConfig",
        scene: EvaluatedScene,
        samples: Samples,
        alignment: Alignment,
        truth: GroundTruth,
        progress: Progress,
        notes: list[str],
    ) -> None:
        self.config, self.scene, self.samples, self.alignment = config, scene, samples, alignment
        self.truth, self.progress, self.notes = truth, progress, notes
        self.candidates: list[dict[str, Any]] = []
        """The samples that were rendered to find the best, at the screening width."""
        self.best_views: list[tuple[TrueView, ViewLike]] = []

    @cached_property
    def full(self) -> list[TrueView]:
        """Held-out views at the size at which they are compared."""
        found = views.true_views(self.truth, self.config.n_views, self.config.width_px, self.scene.registered[0])
        return _with_covisibility(found, self.truth) if self.config.covisible else found

    @cached_property
    def small(self) -> list[TrueView]:
        """The same ones as the candidates are compared with."""
        width = self.config.screening_width_px
        if width >= (self.config.width_px or self.truth.width):
            return self.full
        found = views.true_views(self.truth, self.config.n_views, width, self.scene.registered[0])
        return [view.judged_as(full) for view, full in zip(found, self.full, strict=True)]

    @cached_property
    def baselines(self) -> dict[str, Float[np.ndarray, " K"]]:
        return _baselines(self.config, self.scene, self.notes) if self.config.baselines and self.full else {}

    def novel_views(self) -> list[dict[str, Any]]:
        """Held-out views: the best of N samples, then the baselines."""
        if not self.full:
            self.notes.append("the truth has no held-out view at a frame with a camera pose")
            return []
        solutions = self._best_sample() | self.baselines
        metric = _perceptual(self.notes)
        rows = []
        with self.progress.task("novel views", len(solutions) * len(self.full)) as advance:
            for name, log_scale in solutions.items():
                rendered = []
                for view in self.full:
                    rendered.append(views.render_like(self.scene, self.alignment, view, np.exp(log_scale)))
                    advance(1)
                pairs = list(zip(self.full, rendered, strict=True))
                if not self.best_views:
                    self.best_views = pairs
                scores = [views.compare_view(r, view, self.alignment.true_of, metric) for view, r in pairs]
                off = protocol.scale_distance(log_scale[None], self.alignment.true_log_scale)[0]
                rows.append({"scales": name, **views.summarised(scores), "log_distance": float(off), "views": len(self.full)})
        return rows

    def _best_sample(self) -> dict[str, Float[np.ndarray, " K"]]:
        """By all measures at the screening width, among those that the protocol renders. Empty without samples."""
        config, log_scale = self.config, self.samples.log_scale
        if not len(log_scale):
            return {}
        distance = from_truth = protocol.scale_distance(log_scale, self.alignment.true_log_scale)
        if np.isnan(from_truth).any():
            self.notes.append(
                "the truth does not know the objects' motion, so no distance to the true scales: the best sample was sought "
                f"among {config.explored} spread ones and the nearest of the best of these"
            )
            start = self._compared(np.arange(min(config.explored, len(log_scale))), from_truth)
            distance = protocol.scale_distance(log_scale, log_scale[start])
        chosen = protocol.candidates(
            distance, config.closest, config.lucky, config.lucky_of, np.random.default_rng(config.seed)
        )
        best = self._compared(chosen, from_truth)
        for row in self.candidates:
            row["best"] = row["sample"] == best
        return {f"best of {len(log_scale)}": log_scale[best]}

    def _compared(self, chosen: Int[np.ndarray, " n"], from_truth: Float[np.ndarray, " N"]) -> int:
        """Render samples at the screening width and note how good they are; the best of them."""
        scores = []
        with self.progress.task("compare", len(chosen)) as advance:
            for i in chosen.tolist():
                scores.append(self._screened(self.samples.scale[i]))
                self.candidates.append({"sample": i, "log_distance": float(from_truth[i]), **scores[-1]})
                advance(1)
        return int(chosen[protocol.best(scores)])

    def _screened(self, scale: Float[np.ndarray, " K"]) -> dict[str, float]:
        pairs = [(views.render_like(self.scene, self.alignment, view, scale), view) for view in self.small]
        score = views.summarised([views.compare_view(r, view, self.alignment.true_of) for r, view in pairs])
        return {name: score[name] for name in ("psnr_db", "ssim", "ssimae", "miou")}

    def multi_truth(self) -> list[dict[str, Any]]:
        """Mean and deviation over other true scenes of the best of N samples, and of each single solution.

        Raises InputError, ReconstructionError: such scenes cannot be rendered, or there are too few.
        """
        generator = np.random.default_rng(self.config.seed)
        combinations = multi_truth.true_combinations(self.truth, self.config.truths, generator)
        samples = {f"best of {len(self.samples.log_scale)}": self.samples.log_scale} if len(self.samples.log_scale) else {}
        found = multi_truth.multi_truth(
            self.scene,
            self.alignment,
            samples | {name: log_scale[None] for name, log_scale in self.baselines.items()},
            (self.full, self.small),
            combinations,
            multi_truth.rescaled_truth(self.truth),
            n_candidates=self.config.closest,
            progress=self.progress,
        )
        return [
            {"scales": name, "measure": measure, "mean": figures["mean"], "deviation": figures["deviation"], "truths": n}
            for name, measures in found.items()
            for measure, figures in measures.items()
            if (n := int(figures["n"]))
        ]


def _baselines(config: "EvaluateConfig", scene: EvaluatedScene, notes: list[str]) -> dict[str, Float[np.ndarray, " K"]]:
    """Log scales of each single solution that can be had."""
    maps = _maps(scene)
    makers: dict[str, Callable[[], Float[np.ndarray, " K"]]] = {"ones": lambda: baselines.ones(maps)}
    zone = scene.zone
    if zone is not None:
        makers["zone centre"] = lambda: baselines.zone_centre(zone, np.random.default_rng(config.seed))
        makers["contact"] = lambda: baselines.contact(zone)
    folder = config.depth_prior
    if folder is not None:
        makers["depth prior"] = lambda: baselines.depth_prior(maps, baselines.read_depth_prior(Path(folder), maps))
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except OsnError as error:
            notes.append(f"baseline {name}: {error}")
    return found


def _maps(scene: EvaluatedScene) -> AloneMaps:
    frames = evenly_spread(np.flatnonzero(scene.registered[0]), _MAPS_FRAMES)
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
    config: "EvaluateConfig", scene: EvaluatedScene, samples: Samples, alignment: Alignment, truth: GroundTruth
) -> list[dict[str, Any]]:
    """Precision, recall and IoU of the zone, the network, and both, over the objects that have a true counterpart.

    The last row is about the samples themselves: their precision is the share that is truly valid.
    """
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
    sets: dict[str, Callable[[Float[np.ndarray, "H K"]], Bool[np.ndarray, " H"]]] = {}
    if zone is not None:
        sets["zone"] = zone.contains
    if network is not None:
        sets["network"] = lambda x: network.score(x) >= LIKELY
    if zone is not None and network is not None:
        sets["zone and network"] = lambda x: zone.contains(x) & (network.score(x) >= LIKELY)
    scores = valid_set.score_memberships(
        {name: (lambda x, member=member: member(completed(x))) for name, member in sets.items()},  # type: ignore[misc]
        rays,
        true_log_scale,
        n=config.combinations,
        generator=np.random.default_rng(config.seed),
        threshold=config.agreement,
    )
    rows = [{"set": name, **asdict(score), "objects": len(columns)} for name, score in scores.items()]
    relative = samples.log_scale[:, columns] - true_log_scale
    agreement = valid_set.true_agreement(rays.depth_alone, rays.labels, np.exp(relative - relative[:, :1]))
    valid = float(valid_set.is_valid(agreement, config.agreement).mean()) if len(relative) else float("nan")
    rows.append({"set": "samples", "precision": valid, "objects": len(columns)})
    return rows


def mesh_scores(
    config: "EvaluateConfig",
    scene: EvaluatedScene,
    labels: Labels,
    video: Video,
    alignment: Alignment,
    truth: GroundTruth,
    context: StageContext,
) -> list[dict[str, Any]]:
    """F-score of each object's mesh against the surface that the filming camera saw, after the similarity of their motions,
    and after registration of the surfaces, which forgives the motion and judges the shape alone.

    Raises InputError where the truth has no depth maps or no label maps.
    """
    if truth.depth_train is None or truth.segm_train is None:
        raise InputError(
            f"{truth.folder} has no depth or no label maps of the filmed frames: no surface to compare meshes with"
        )
    meshes = scene_meshes(config.meshing, scene=scene, labels=labels, video=video, context=context)
    rows = []
    for column, true_label, pose in zip(alignment.columns, alignment.true_labels, alignment.poses, strict=True):
        points = seen_surface(truth, true_label)
        row: dict[str, Any] = {"object": scene.object_ids[column], "faces": len(meshes[column].faces)}
        if len(points) >= _MIN_SURFACE_POINTS:
            tolerance = config.mesh_tolerance * object_size(points)
            mesh, by_motion = meshes[column], pose.true_from_est
            found = mesh_accuracy(mesh, points, true_from_mesh=by_motion, tolerance=tolerance)
            by_shape = registered(mesh, points, true_from_mesh=by_motion)
            row |= {
                "f_score": found.f_score,
                "f_score_registered": mesh_accuracy(mesh, points, true_from_mesh=by_shape, tolerance=tolerance).f_score,
                "precision": found.precision,
                "recall": found.recall,
                "tolerance": tolerance,
            }
        rows.append(row)
    return rows


def _rays_of(rays: valid_set.TellingRays, true_labels: Sequence[int]) -> valid_set.TellingRays:
    """The rays as they concern some objects only: the others are taken away."""
    position = {label: i for i, label in enumerate(true_labels)}
    kept = np.isin(rays.labels, list(position))
    labels = np.array([position[label] for label in rays.labels[kept].tolist()], np.int64)
    return valid_set.TellingRays(rays.depth_alone[kept][:, list(true_labels)], labels)
