"""report.html: everything about a workspace on one page that needs no other file and asks no server for anything."""

from datetime import datetime
from pathlib import Path

from pydantic import Field

from pipelines.artifacts import SfmStatus
from pipelines.meshing.surfaces import MeshConfig, scene_meshes
from pipelines.reporting import sections
from pipelines.reporting.findings import Findings
from pipelines.reporting.markup import Html, asset, tag
from pipelines.reporting.scales import scales_section
from pipelines.reporting.scene3d import scene_data, scene_view
from pipelines.reporting.scenes import sample_pictures
from pipelines.stage import StageConfig, StageContext

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
"""The browser refuses anything that does not lie in the page itself."""


class ReportConfig(StageConfig):
    """How much the page shows."""

    samples: int = Field(default=8, ge=1)
    """Sampled scenes that are rendered."""
    picture_width_px: int = Field(default=240, ge=32)
    turn_deg: float = Field(default=22.0, gt=-180, lt=180)
    """How far beside the filming camera the rendered scenes are looked at from."""
    samples_3d: int = Field(default=24, ge=1)
    """Sampled scenes that the 3D view offers."""
    object_faces: int = Field(default=6_000, ge=16)
    background_faces: int = Field(default=40_000, ge=16)
    max_video_bytes: int = Field(default=10_000_000, ge=0)
    meshing: MeshConfig = MeshConfig()


def write_report(config: ReportConfig, found: Findings, path: Path, *, context: StageContext) -> Path:
    """Write the page. Sections of stages that have not run say so.

    context: its `items` keep pictures and meshes, so that the next report, or an export, finds them.
    """
    page = report_page(config, found, context)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def report_page(config: ReportConfig, found: Findings, context: StageContext) -> str:
    """The whole document."""
    pictures = None
    if found.scene is not None and found.samples is not None and len(found.samples.score):
        pictures = sample_pictures(
            found.scene,
            found.samples,
            n=config.samples,
            width_px=min(config.picture_width_px, found.scene.width),
            turn_deg=config.turn_deg,
            context=context,
        )
    content = [
        ("objects", "Objects", sections.objects_section(found)),
        ("scales", "Scales", scales_section(found)),
        ("samples", "Sampled scenes", sections.samples_section(found, pictures)),
        ("scene", "One scene in 3D", scene_section(config, found, context)),
        ("training", "Training", sections.training_section(found)),
        ("evaluation", "Against ground truth", sections.evaluation_section(found)),
        ("stages", "Stages and settings", sections.stages_section(found)),
    ]
    shown = [entry for entry in content if entry[2]]
    name = Path(found.source).name
    links = tag("nav", *(tag("a", title, href=f"#{key}") for key, title, _ in shown))
    made = f"{found.source}, {_clip(found)}"
    head = tag("header", tag("h1", name), tag("p", made, class_="quiet"), links, notes_list(found))
    body = [tag("section", tag("h2", title), markup, id=key) for key, title, markup in shown]
    video = tag("section", sections.video_section(found, config.max_video_bytes), id="video", style="margin-top:28px")
    foot = tag("footer", f"Written by osn on {datetime.now():%Y-%m-%d %H:%M} with {sections.versions()}.")
    return f"<!doctype html>\n{tag('html', _head(name), tag('body', head, tag('main', video, *body), foot), lang='en')}\n"


def _head(title: str) -> Html:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: osn report"),
        tag("link", rel="icon", href="data:,"),
        tag("style", asset("report.css")),
    )


def _clip(found: Findings) -> str:
    if found.video is None:
        return "no frames yet"
    video = found.video
    return f"{video.n_frames} frames of {video.width} × {video.height} px, {video.fps:.3g} per second"


def scene_section(config: ReportConfig, found: Findings, context: StageContext) -> Html:
    """Meshes in motion, with the sampled scenes to choose from."""
    scene, samples = found.scene, found.samples
    if scene is None or samples is None or found.labels is None or found.video is None or len(samples.score) == 0:
        return sections.absent("osn sample")
    meshes = scene_meshes(config.meshing, scene=scene, labels=found.labels, video=found.video, context=context)
    offered = [(f"sample {i}", scale) for i, scale in enumerate(samples.scale[: config.samples_3d])]
    faces = [config.background_faces, *[config.object_faces] * (len(scene.names) - 1)]
    return scene_view(scene_data(scene, meshes, offered, faces))


def notes_list(found: Findings) -> Html:
    """What a reader should know before believing anything."""
    notes = report_notes(found)
    return tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else Html("")


def report_notes(found: Findings) -> list[str]:
    notes = [f"The results of {r.name} are out of date: {r.outdated}." for r in found.stages if r.outdated]
    if found.sfm is not None and found.labels is not None:
        for model, name in zip(found.sfm.objects, found.labels.names, strict=True):
            if model.status is not SfmStatus.OK:
                notes.append(f"{name}: {model.reason or model.status}.".replace("..", "."))
        if found.sfm.focal_source == "assumed":
            notes.append("The focal length is assumed: give it with --focal-px or --fov-deg if you know it.")
    if found.scene is not None and found.zone is not None:
        notes += _scale_notes(found)
    return notes


def _scale_notes(found: Findings) -> list[str]:
    assert found.scene is not None and found.zone is not None
    if found.zone.contradiction is not None:
        return [f"No scene agrees with the video: {found.zone.contradiction.describe(found.scene.names)}."]
    sides: dict[str, list[str]] = {"lower": [], "upper": []}
    for column, name in enumerate(found.scene.names[1:], start=1):
        for side, chain in zip(sides, found.zone.explain_interval(column), strict=True):
            if any(bound.assumed for bound in chain):
                sides[side].append(name)
    return [
        f"The {side} end of the scale of {', '.join(names)} is an assumption: nothing in the video bounds it."
        for side, names in sides.items()
        if names
    ]
