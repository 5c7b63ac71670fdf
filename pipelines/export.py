"""Sampled scenes as files for other programs (DESIGN section 7): meshes, animated glTF, USD, cameras, depth, masks, points.

Meshes are made once per trained scene and shared by all samples: only scales and translations differ between samples.
Axes and units are converted in `pipelines.formats`; a known real length (`metric`) fixes the unit of glTF and USD files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.artifacts import BACKGROUND, Labels, Samples, Sfm, Video, write_json
from pipelines.choice import ChosenScene, choose_scenes
from pipelines.formats.mesh_files import MeshFormat
from pipelines.meshing.surfaces import MeshConfig
from pipelines.scenery import SceneLike
from pipelines.stage import StageConfig, StageContext, shortened

if TYPE_CHECKING:
    from pipelines.formats.placement import Placement
    from pipelines.meshing.mesh import Mesh

NEAR_SHARE, FAR_FACTOR = 0.1, 4.0
"""Clipping planes of the exported camera, relative to the nearest and farthest content."""
FORMATS = ("mesh", "glb", "usd", "colmap", "nerfstudio", "depth", "masks", "points")
"""Outputs, in the order in which they are written."""
WITHOUT_SCENE = frozenset({"colmap", "masks", "points"})
"""Those that preprocessing makes already."""
WITH_SCALES = frozenset({"glb", "usd", "depth"})
"""Those that differ between samples."""
WITH_UNIT = frozenset({"mesh", "glb", "usd", "depth"})
"""Those whose lengths a known size turns into metres; the others keep the reconstruction's units."""


def read_by(name: str, *, metric: bool) -> frozenset[str]:
    """Names of the options that an output depends on. metric: whether a known size is given."""
    sized = metric and name in WITH_UNIT
    is_read = {
        "mesh_format": name == "mesh",
        "unlit": name in ("mesh", "glb", "usd"),
        "meshing": name in ("mesh", "glb", "usd") or sized,
        "metric": name in WITH_UNIT,
        "sample": name in WITH_SCALES or sized,
    }
    return frozenset(option for option in is_read if is_read[option])


class ExportConfig(StageConfig):
    """What to write. Nothing chosen means meshes and animated GLB."""

    mesh: bool = False
    """A mesh file per object."""
    glb: bool = False
    """An animated GLB per scene."""
    usd: bool = False
    """One USD stage with a variant per scene."""
    colmap: bool = False
    """A COLMAP data set per object."""
    nerfstudio: bool = False
    """transforms.json, images, masks and points."""
    depth: bool = False
    """Depth maps of the filmed views."""
    masks: bool = False
    """Label maps as palette PNG."""
    points: bool = False
    """The reconstructed points of each object."""
    sample: str = "best"
    """Which scenes, for the outputs that depend on scales: 'best', numbers such as '3,7', or 'diverse:8'."""
    mesh_format: MeshFormat = MeshFormat.PLY
    """Of --mesh."""
    metric: str | None = None
    """A known real length, such as "object 2 height = 0.3 m": meshes, GLB, USD and depth are then in metres."""
    unlit: bool = True
    """GLB and USD materials without shading: the colours already contain the light of the video."""
    meshing: MeshConfig = MeshConfig()

    @property
    def wanted(self) -> frozenset[str]:
        """Names of the chosen outputs."""
        return frozenset(name for name in FORMATS if getattr(self, name)) or frozenset({"mesh", "glb"})

    @property
    def relevant(self) -> "ExportConfig":
        """Options that no chosen output depends on are at their defaults."""
        kept = {*FORMATS, *self._read}
        defaults = {name: field.default for name, field in type(self).model_fields.items() if name not in kept}
        return self.model_copy(update=defaults)

    @property
    def _read(self) -> frozenset[str]:
        """Options that some chosen output depends on."""
        return frozenset().union(*(read_by(name, metric=self.metric is not None) for name in self.wanted))

    @property
    def needs_scene(self) -> bool:
        return not self.wanted <= WITHOUT_SCENE

    @property
    def needs_scales(self) -> bool:
        return "sample" in self._read


@dataclass
class _Job:
    """Everything that the writers share; meshes are made when the first writer asks."""

    config: ExportConfig
    video: Video
    labels: Labels
    sfm: Sfm
    trained: SceneLike | None
    samples: Samples | None
    context: StageContext
    written: list[Path] = field(default_factory=list)

    @property
    def scene(self) -> SceneLike:
        assert self.trained is not None, "ExportConfig.needs_scene says when there has to be one"
        return self.trained

    @cached_property
    def chosen(self) -> list[ChosenScene]:
        return choose_scenes(self.config.sample, self.samples, len(self.scene.object_ids) - 1)

    @cached_property
    def meshes(self) -> "Sequence[Mesh]":
        from pipelines.meshing.surfaces import scene_meshes

        return scene_meshes(self.config.meshing, scene=self.scene, labels=self.labels, video=self.video, context=self.context)

    def folder(self, name: str) -> Path:
        path = self.context.out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def metres_per_unit(self, chosen: ChosenScene) -> float:
        """Length of one world unit under a sample; 1 where no real length is known."""
        if self.config.metric is None:
            return 1.0
        from pipelines.formats.metric import KnownSize

        known = KnownSize.parse(self.config.metric, self.scene.object_ids, self.scene.names)
        column = known.column
        t = int(np.argmax(self.scene.registered[0] & self.scene.registered[column]))
        upright = self.placement_of(chosen.scale, 1.0).rotation(column, t)
        return known.metres_per_unit(self.meshes[column].vertices, float(chosen.scale[column]), upright)

    def clipping_range(self, placements: "Sequence[Placement]") -> tuple[float, float]:
        """Near and far plane for the filming camera under all of these placements."""
        ranges = [placement.depth_range([mesh.vertices for mesh in self.meshes]) for placement in placements]
        return NEAR_SHARE * min(near for near, _ in ranges), FAR_FACTOR * max(far for _, far in ranges)

    def placement_of(self, scale: np.ndarray, unit: float) -> "Placement":
        from pipelines.formats.placement import place

        return place(self.scene, scale, unit=unit)


def export(
    config: ExportConfig,
    *,
    video: Video,
    labels: Labels,
    sfm: Sfm,
    scene: SceneLike | None,
    samples: Samples | None,
    context: StageContext,
) -> list[Path]:
    """Write the chosen outputs into `context.out`; returns the main file or folder of each.

    scene, samples: None where `config.needs_scene` and `config.needs_scales` allow it (or the scales are a person's own).

    Raises UsageError for a sample or metric that cannot be honoured, MissingDependencyError for USD without usd-core,
    ReconstructionError when outputs need a sample and there is none.
    """
    job = _Job(config, video, labels, sfm, scene, samples, context)
    writers: dict[str, Callable[[_Job], None]] = {
        "mesh": _write_meshes,
        "glb": _write_glb,
        "usd": _write_usd,
        "colmap": _write_colmap,
        "nerfstudio": _write_nerfstudio,
        "depth": _write_depth,
        "masks": _write_masks,
        "points": _write_points,
    }
    for kind in FORMATS:
        if kind in config.wanted:
            writers[kind](job)
            if config.metric is not None and kind not in WITH_UNIT:
                context.progress.note(f"--metric has no effect on {kind}: it keeps the units of the reconstruction")
    return job.written


def file_name(label: int, name: str) -> str:
    """`02_crate` for an object of that label and name, safe on every file system."""
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return shortened(f"{label:02d}_{safe}")


def _write_meshes(job: _Job) -> None:
    from pipelines.formats.mesh_files import write_mesh

    folder = job.folder("meshes")
    sizes = np.ones(len(job.meshes))
    if job.config.metric is not None:
        sizes = job.chosen[0].scale * job.metres_per_unit(job.chosen[0])
        if len(job.chosen) > 1:
            job.context.progress.note(f"the meshes have their sizes in {job.chosen[0].name}: other scenes, other sizes")
    for mesh, size, label, name in zip(job.meshes, sizes, job.scene.object_ids, job.scene.names, strict=True):
        if len(mesh.faces) > 0:
            path = folder / f"{file_name(label, name)}.{job.config.mesh_format}"
            write_mesh(path, mesh.scaled(float(size)), job.config.mesh_format, unlit=job.config.unlit)
            job.written.append(path)


def _describe(job: _Job, chosen: ChosenScene, metres_per_unit: float) -> dict[str, object]:
    return {
        "sample": chosen.index,
        "score": chosen.score,
        "scales": {name: float(s) for name, s in zip(_told_apart(job.scene), chosen.scale, strict=True)},
        "metres_per_world_unit": None if job.config.metric is None else metres_per_unit,
    }


def _told_apart(scene: SceneLike) -> list[str]:
    """Names of the objects; with their labels where two have the same."""
    labelled = zip(scene.object_ids, scene.names, strict=True)
    return [name if scene.names.count(name) == 1 else file_name(k, name) for k, name in labelled]


def _write_glb(job: _Job) -> None:
    from pipelines.formats.gltf import PinholeCamera, SceneAsset

    folder = job.folder("glb")
    names = [file_name(k, name) for k, name in zip(job.scene.object_ids, job.scene.names, strict=True)]
    asset = SceneAsset.build(job.meshes, names, unlit=job.config.unlit)
    with job.context.progress.task("glb", len(job.chosen)) as advance:
        for chosen in job.chosen:
            metres = job.metres_per_unit(chosen)
            placement = job.placement_of(chosen.scale, metres)
            clipping = job.clipping_range([placement])
            camera = PinholeCamera.from_intrinsics(job.scene.intrinsics, job.scene.width, job.scene.height, *clipping)
            path = folder / f"{chosen.name}.glb"
            path.write_bytes(asset.glb(placement, camera, extras=_describe(job, chosen, metres)))
            job.written.append(path)
            advance(1)


def _write_usd(job: _Job) -> None:
    from pipelines.formats.usd import write_usd

    metres = {chosen.name: job.metres_per_unit(chosen) for chosen in job.chosen}
    placements = {chosen.name: job.placement_of(chosen.scale, metres[chosen.name]) for chosen in job.chosen}
    path = job.folder("usd") / "scenes.usdc"
    write_usd(
        path,
        meshes=job.meshes,
        names=[file_name(k, name) for k, name in zip(job.scene.object_ids, job.scene.names, strict=True)],
        placements=placements,
        intrinsics=job.scene.intrinsics,
        width=job.scene.width,
        height=job.scene.height,
        fps=job.scene.fps,
        clipping_range=job.clipping_range(list(placements.values())),
        unlit=job.config.unlit,
    )
    described = {chosen.name: _describe(job, chosen, metres[chosen.name]) for chosen in job.chosen}
    write_json(path.with_name("scenes.json"), described)
    job.written.append(path)


def _write_colmap(job: _Job) -> None:
    from pipelines.formats.colmap import write_dataset

    folder = job.folder("colmap")
    copied: dict[int, Path] = {}
    for model, name in zip(job.sfm.objects, job.labels.names, strict=True):
        if model.usable:
            path = folder / file_name(model.object_id, name)
            write_dataset(path, model, intrinsics=job.sfm.intrinsics, video=job.video, labels=job.labels, copied=copied)
            job.written.append(path)


def _write_nerfstudio(job: _Job) -> None:
    from pipelines.formats.nerfstudio import write_nerfstudio

    path = write_nerfstudio(
        job.folder("nerfstudio"),
        intrinsics=job.scene.intrinsics,
        cam_from_world=job.scene.cam_from_obj[0],
        registered=job.scene.registered[0],
        video=job.video,
        labels=job.labels,
        background=job.sfm.objects[BACKGROUND],
    )
    job.written.append(path)


def _write_depth(job: _Job) -> None:
    from pipelines.formats.depth import write_depth

    frames = [int(t) for t in np.flatnonzero(job.scene.registered[0])]
    with job.context.progress.task("depth", len(frames) * len(job.chosen)) as advance:
        for chosen in job.chosen:
            depths, metres = [], job.metres_per_unit(chosen)
            for t in frames:
                view = job.scene.render(t=t, scale=chosen.scale)
                depths.append((t, np.where(view.opacity > 0.5, view.depth * metres, np.inf).astype(np.float32)))
                advance(1)
            folder = job.folder(f"depth/{chosen.name}")
            write_depth(folder, depths)
            job.written.append(folder)


def _write_masks(job: _Job) -> None:
    job.labels.save(job.folder("masks"))
    job.written.append(job.context.out / "masks")


def _write_points(job: _Job) -> None:
    from pipelines.formats.mesh_files import write_points

    folder = job.folder("points")
    for model, name in zip(job.sfm.objects, job.labels.names, strict=True):
        if model.usable:
            path = folder / f"{file_name(model.object_id, name)}.ply"
            write_points(path, model.points, model.point_rgb)
            job.written.append(path)
