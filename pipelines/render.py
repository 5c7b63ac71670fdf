"""Sampled scenes as video: the filmed view, or what another camera would have seen.

Several samples are also shown side by side: above each the filmed view, which is the same for all of them, below the view
from elsewhere, which is not. Colour, depth and labels are written as mp4 and as single images; `cameras.json` tells the
camera and the moment of each, as a path that can be edited and rendered again.
"""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import Field

from pipelines.artifacts import BACKGROUND, Samples
from pipelines.cameras.paths import PathKind
from pipelines.caption import caption
from pipelines.choice import ChosenScene, choose_scenes
from pipelines.errors import UsageError
from pipelines.formats.mp4 import AddPicture, mp4_writer
from pipelines.geometry import scaled_intrinsics
from pipelines.progress import Advance
from pipelines.scenery import SceneLike
from pipelines.stage import StageConfig, StageContext

if TYPE_CHECKING:
    from pipelines.cameras.observed import SeenBackground
    from pipelines.cameras.paths import Shot

PREVIEW_WIDTH_PX = 48
"""Size of the quick renderings that find what the camera looks at."""
PIVOT_LOOKS = 12
MIN_MOVER_SHARE = 0.01
"""Of the image: fewer mover pixels are not what the camera looks at."""
GRID_COLUMNS = 4
MOST_SIDE_PX = 16_384
"""What H.264 encoders take."""
CAMERAS_FILE = "cameras.json"
MAX_SCENES = 64
"""Every film that is being written keeps an encoder of some 33 MB."""


class Output(StrEnum):
    COLOUR = "colour"
    DEPTH = "depth"
    LABELS = "labels"


class RenderConfig(StageConfig):
    """What to render."""

    path: str = "sway"
    """filmed, sway, orbit, freeze, or a JSON file with a camera path (docs/formats.md)."""
    samples: str = "best"
    """Which scenes: 'best', numbers such as '3,7', 'diverse:8', or scales of your own, 'scales:0.8,1.3'."""
    outputs: tuple[Output, ...] = Field(default=(Output.COLOUR,), min_length=1)
    """colour, depth, labels: a video of each."""
    width_px: int | None = Field(default=None, ge=16, le=8192)
    """Width of the images; unset: that of the video, at most `quick_width_px`."""
    quick_width_px: int = Field(default=256, ge=16)
    """Keeps a render that nobody chose a size for within minutes on a CPU."""
    first_frame: int = Field(default=0, ge=0)
    """Of the video, to begin with."""
    last_frame: int | None = Field(default=None, ge=0)
    """Unset: the video's last."""
    frame_step: int = Field(default=1, ge=1)
    """Every how many frames of the video one is rendered."""
    freeze_frame: int | None = Field(default=None, ge=0)
    """Moment at which `freeze` stops time; unset: the middle of the chosen frames."""
    freeze_steps: int = Field(default=48, ge=2)
    """Pictures of a `freeze` path."""
    sway_deg: float = Field(default=6.0, gt=0, lt=80)
    """How far the camera of `sway` turns about what it looks at, to either side."""
    sway_period_frames: int = Field(default=24, ge=2)
    """Frames in which it comes round once."""
    orbit_deg: float = Field(default=25.0, gt=0, lt=80)
    """How far the camera of `orbit` and `freeze` turns, to either side."""
    grid: bool = True
    """Several samples side by side in one video."""
    images: bool = True
    """Also write every frame as PNG."""
    mark_unseen: bool = True
    """Hatch what no filmed frame ever saw."""
    seen_depth_tolerance: float = Field(default=0.08, gt=0)
    """Share of the depth by which the background may miss the surface that a filmed frame saw, and still count as seen."""
    min_opacity: float = Field(default=0.5, gt=0, lt=1)
    """A filmed frame saw the background where it is at least as opaque as this."""
    seen_views: int = Field(default=24, ge=1)
    """Filmed frames, evenly spread, that are asked what they saw."""
    seen_width_px: int = Field(default=192, ge=16)
    """Width at which those frames are asked."""

    @property
    def path_file(self) -> Path | None:
        """The camera path of a person's own, when it is one."""
        return None if self.path in set(PathKind) else Path(self.path)


def render(config: RenderConfig, *, scene: SceneLike, samples: Samples | None, context: StageContext) -> list[Path]:
    """Write videos, images and their cameras into `context.out`; returns the videos. samples: None for scales of one's own.

    Raises UsageError or InputError for a sample, frame range or camera path that cannot be honoured,
    ReconstructionError when there is no sample.
    """
    chosen = choose_scenes(config.samples, samples, len(scene.object_ids) - 1)
    if len(chosen) > MAX_SCENES:
        raise UsageError(
            f"{len(chosen)} scenes are too many for one render, expected at most {MAX_SCENES} (diverse:{MAX_SCENES})"
        )
    shots = camera_path(config, scene, chosen[0].scale)
    elsewhere = any(shot.view_from_world is not None for shot in shots)
    side_by_side = config.grid and len(chosen) > 1
    first = config.outputs[0]
    looks = _Looks(config, scene, seen=seen_background(config, scene) if elsewhere and config.mark_unseen else None)
    n_renders = len(shots) * len(chosen) * (2 if side_by_side and elsewhere else 1)
    with context.progress.task("render", n_renders) as advance, ExitStack() as stack:
        fps = scene.fps / config.frame_step if config.path_file is None and config.path != PathKind.FREEZE else scene.fps
        films = _Films(context.out, fps, stack)
        for index, shot in enumerate(shots):
            pictures = [looks.pictures(shot, scenario, advance) for scenario in chosen]
            for scenario, of_outputs in zip(chosen, pictures, strict=True):
                for output, picture in of_outputs.items():
                    films.add(f"{scenario.name}_{output}", picture, index if config.images else None)
            if side_by_side:
                rows = [[titled(p[first], scenario.name) for p, scenario in zip(pictures, chosen, strict=True)]]
                if elsewhere:
                    rows.insert(
                        0,
                        [
                            looks.pictures(replace(shot, view_from_world=None, intrinsics=None), c, advance)[first]
                            for c in chosen
                        ],
                    )
                films.add("grid", side_by_side_picture(rows), index if config.images else None)
        cameras = cameras_document(config, scene, shots, looks.depth_range)
        (context.out / CAMERAS_FILE).write_text(_picture_per_line(cameras), encoding="utf-8")
        return films.paths


def picture_size(config: RenderConfig, scene: SceneLike) -> tuple[int, int]:
    """Width and height of the rendered pictures, px."""
    width = config.width_px or min(scene.width, config.quick_width_px)
    return width, max(1, round(width * scene.height / scene.width))


def intrinsics_of(shot: "Shot", scene: SceneLike, width: int, height: int) -> Float[np.ndarray, "3 3"]:
    """Of a shot's picture: its own, or those of the video at that size."""
    if shot.intrinsics is not None:
        return shot.intrinsics
    return scaled_intrinsics(scene.intrinsics, width / scene.width, height / scene.height)


def cameras_document(
    config: RenderConfig, scene: SceneLike, shots: "list[Shot]", depth_range: tuple[float, float] | None
) -> dict[str, Any]:
    """Which camera and which moment each picture shows, in the form that `pipelines.cameras.paths.read_path` takes.

    depth_range: nearest and farthest depth of the colours of depth pictures, in world units; None where there are none.
    """
    width, height = picture_size(config, scene)
    frames = [
        {
            "file": image_name(index),
            "t": shot.t,
            "view_from_world": (
                scene.cam_from_obj[BACKGROUND, shot.t] if shot.view_from_world is None else shot.view_from_world
            ).tolist(),
            "intrinsics": intrinsics_of(shot, scene, width, height).tolist(),
            "width": width,
            "height": height,
        }
        for index, shot in enumerate(shots)
    ]
    colours = {} if depth_range is None else {"depth_colours": {"near": depth_range[0], "far": depth_range[1]}}
    return {"frames": frames, **colours}


def _picture_per_line(document: dict[str, Any]) -> str:
    """As JSON, for people who edit it."""
    members = {key: json.dumps(value) for key, value in document.items()}
    members["frames"] = "[\n" + ",\n".join(json.dumps(frame) for frame in document["frames"]) + "\n]"
    return "{" + ", ".join(f'"{key}": {text}' for key, text in members.items()) + "}\n"


def image_name(index: int) -> str:
    """Of a picture among the single images; its number in the video is the index."""
    return f"{index:06d}.png"


def camera_path(config: RenderConfig, scene: SceneLike, scale: Float[np.ndarray, " K"]) -> "list[Shot]":
    """The images to render. Paths about a pivot look at what the filming camera has before it under the given scales.

    Raises UsageError when no frame with a known camera is left, InputError for a bad JSON path.
    """
    from pipelines.cameras import paths

    if config.path_file is not None:
        width, height = picture_size(config, scene)
        return paths.read_path(config.path_file, scene.n_frames, width=width, height=height)
    last = scene.n_frames - 1 if config.last_frame is None else min(config.last_frame, scene.n_frames - 1)
    frames = [t for t in range(config.first_frame, last + 1, config.frame_step) if scene.registered[0, t]]
    if not frames:
        raise UsageError(
            f"no frame from {config.first_frame} to {last} has a known camera, expected some of 0 to {scene.n_frames - 1}"
        )
    cam_from_world = scene.cam_from_obj[0]
    match PathKind(config.path):
        case PathKind.FILMED:
            return [paths.Shot(t) for t in frames]
        case PathKind.SWAY:
            pivots = _pivots(scene, frames, scale)
            return paths.sway(
                cam_from_world, frames, pivots, amplitude_deg=config.sway_deg, period_frames=config.sway_period_frames
            )
        case PathKind.ORBIT:
            return paths.orbit(cam_from_world, frames, _pivots(scene, frames, scale), amplitude_deg=config.orbit_deg)
        case PathKind.FREEZE:
            stopped = frames[len(frames) // 2] if config.freeze_frame is None else config.freeze_frame
            if stopped >= scene.n_frames or not scene.registered[0, stopped]:
                raise UsageError(f"frame {stopped} has no known camera, expected one such as {frames[0]} or {frames[-1]}")
            pivots = np.repeat(_pivots(scene, [stopped], scale), config.freeze_steps)
            return paths.orbit(cam_from_world, [stopped] * config.freeze_steps, pivots, amplitude_deg=config.orbit_deg)
        case unknown:
            assert_never(unknown)


def seen_background(config: RenderConfig, scene: SceneLike) -> "SeenBackground":
    """What the filmed frames saw of the background, for marking the rest."""
    from pipelines.cameras.observed import SeenBackground

    return SeenBackground.of_scene(
        scene,
        n_views=config.seen_views,
        width_px=config.seen_width_px,
        depth_tolerance=config.seen_depth_tolerance,
        min_opacity=config.min_opacity,
    )


def _pivots(scene: SceneLike, frames: list[int], scale: Float[np.ndarray, " K"]) -> Float[np.ndarray, " n"]:
    """Depth of what the camera looks at: the median over the movers (over everything where none is seen), smoothed in time."""
    from scipy.ndimage import gaussian_filter1d

    asked = frames[:: max(len(frames) // PIVOT_LOOKS, 1)]
    depths = []
    for t in asked:
        height = max(1, round(PREVIEW_WIDTH_PX * scene.height / scene.width))
        view = scene.render(t=t, scale=scale, width=PREVIEW_WIDTH_PX, height=height)
        solid = (view.opacity > 0.5) & (view.depth > 0)
        movers = solid & (view.label != BACKGROUND)
        shown = movers if movers.mean() > MIN_MOVER_SHARE else solid
        depths.append(float(np.median(view.depth[shown])) if shown.any() else np.nan)
    known = np.isfinite(depths)
    if not known.any():
        raise UsageError("nothing solid is seen from the filming camera, so there is nothing to look at; try --path filmed")
    pivots = np.interp(frames, np.array(asked)[known], np.array(depths)[known])
    return gaussian_filter1d(pivots, sigma=min(4.0, len(frames) / 4), mode="nearest")


@dataclass
class _Looks:
    """Renders one shot of one scene into the pictures that are asked for."""

    config: RenderConfig
    scene: SceneLike
    seen: "SeenBackground | None"
    depth_range: tuple[float, float] | None = None

    def pictures(self, shot: "Shot", scenario: ChosenScene, advance: Advance) -> dict[Output, UInt8[np.ndarray, "h w 3"]]:
        from pipelines.formats.depth import colourised
        from pipelines.palette_png import palette

        width, height = picture_size(self.config, self.scene)
        intrinsics = intrinsics_of(shot, self.scene, width, height)
        view = self.scene.render(
            t=shot.t,
            scale=scenario.scale,
            view_from_world=shot.view_from_world,
            intrinsics=intrinsics,
            width=width,
            height=height,
        )
        advance(1)
        made: dict[Output, UInt8[np.ndarray, "h w 3"]] = {}
        for output in self.config.outputs:
            match output:
                case Output.COLOUR:
                    rgb = view.rgb
                    if self.seen is not None and shot.view_from_world is not None:
                        rgb = self.seen.marked(view, view_from_world=shot.view_from_world, intrinsics=intrinsics)
                    made[output] = np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
                case Output.DEPTH:
                    depth = np.where(view.opacity > self.config.min_opacity, view.depth, 0.0)
                    made[output] = colourised(depth, *self._depth_range(depth))
                case Output.LABELS:
                    made[output] = palette()[view.label].astype(np.uint8)
                case unknown:
                    assert_never(unknown)
        return made

    def _depth_range(self, depth: Float[np.ndarray, "h w"]) -> tuple[float, float]:
        """The colour scale: that of the first picture, for all of them."""
        if self.depth_range is None:
            solid = depth[depth > 0]
            near, far = np.quantile(solid, [0.01, 0.99]) if len(solid) else (1.0, 2.0)
            self.depth_range = float(near), float(max(far, 1.01 * near))
        return self.depth_range


@dataclass
class _Films:
    """The videos that are being written, opened by their first picture, and the folders of single images beside them."""

    folder: Path
    fps: float
    stack: ExitStack
    paths: list[Path] = field(default_factory=list)
    writers: dict[str, AddPicture] = field(default_factory=dict)

    def add(self, name: str, picture: UInt8[np.ndarray, "h w 3"], index: int | None) -> None:
        """Append a picture to the video of that name; with an index it is also written as an image."""
        from PIL import Image

        if name not in self.writers:
            path = self.folder / f"{name}.mp4"
            height, width = picture.shape[:2]
            self.writers[name] = self.stack.enter_context(mp4_writer(path, width, height, self.fps))
            self.paths.append(path)
        self.writers[name](picture)
        if index is not None:
            images = self.folder / name
            images.mkdir(exist_ok=True)
            Image.fromarray(picture).save(images / image_name(index))


def side_by_side_picture(rows: list[list[UInt8[np.ndarray, "h w 3"]]]) -> UInt8[np.ndarray, "H W 3"]:
    """Rows of equally many pictures, wrapped after some columns (each wrap repeats all rows), padded with black.

    Many scenes make about a square. They are made smaller where it would be larger than an encoder takes.
    """
    height, width = rows[0][0].shape[:2]
    n = len(rows[0])
    columns = min(n, max(GRID_COLUMNS, round((n * len(rows) * height / width) ** 0.5)))
    wraps = -(-n // columns)
    factor = min(MOST_SIDE_PX / (columns * width), MOST_SIDE_PX / (wraps * len(rows) * height))
    if factor < 1:
        import cv2

        width, height = int(factor * width), int(factor * height)
        rows = [[cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in row] for row in rows]
    canvas = np.zeros((wraps * len(rows) * height, columns * width, 3), np.uint8)
    for i in range(n):
        wrap, column = divmod(i, columns)
        for j, row in enumerate(rows):
            top = (wrap * len(rows) + j) * height
            canvas[top : top + height, column * width : (column + 1) * width] = row[i]
    return canvas


def titled(picture: UInt8[np.ndarray, "h w 3"], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with a small title in its upper left corner."""
    return caption(picture, title, (6, 5), size_px=picture.shape[1] // 32)
