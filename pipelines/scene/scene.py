"""The trained scene: what `sample`, `render`, `export` and `evaluate` work with.

Frames and units follow docs/DESIGN.md section 2: the world is the background's frame and unit, and a scale combination
places every other object. Columns are indices into the scene's objects; `object_ids[column]` is the label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.artifacts import BACKGROUND, UNKNOWN, check, read_arrays, read_json, write_json
from pipelines.errors import InputError
from pipelines.geometry import at_pixel_centres, invert, pixel_centres, ray_directions, scaled_intrinsics, viewed_cam_from_obj
from pipelines.scene.compositing import blended, sample_weights, surface_depth
from pipelines.scene.contraction import Box
from pipelines.scene.evidence import AloneMaps, OcclusionEvidence
from pipelines.scene.fields import FieldKind, FieldSize, ObjectField
from pipelines.scene.marching import Marching
from pipelines.scene.model import SceneModel
from pipelines.scene.rays import Rays, object_rays
from pipelines.scene.scale_network import ScaleNetwork
from pipelines.scene.zone import Zone
from pipelines.scenery import View
from pipelines.workers import tensors_in_threads

RAYS_PER_CHUNK = 8192
VIEW_NEAREST = 0.25
"""Another camera than the filming one may come nearer to things: its nearest depth is this share of the filming camera's."""


@dataclass(frozen=True)
class Footage:
    """What the scene remembers of the video it was made from."""

    intrinsics: Float[np.ndarray, "3 3"]
    width: int
    height: int
    n_frames: int
    fps: float
    object_ids: tuple[int, ...]
    names: tuple[str, ...]
    registered: Bool[np.ndarray, "K T"]
    log_scale_range: Float[np.ndarray, "K 2"]
    columns: UInt8[np.ndarray, "T h w"]
    """Which object is seen, at the size of the video; 255 unknown."""
    assumed_columns: tuple[int, ...] = ()
    """Objects whose geometry is itself an assumption (a background without parallax)."""


@dataclass
class Scene:
    """Object fields and poses, and what is known about the scales."""

    footage: Footage
    model: SceneModel
    marching: Marching
    zone: Zone | None = None
    network: ScaleNetwork | None = None
    evidence: OcclusionEvidence | None = None
    """The rays behind `zone` and `network`, of the last round."""

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """At the video's full size."""
        return self.footage.intrinsics

    @property
    def width(self) -> int:
        return self.footage.width

    @property
    def height(self) -> int:
        return self.footage.height

    @property
    def n_frames(self) -> int:
        return self.footage.n_frames

    @property
    def fps(self) -> float:
        return self.footage.fps

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Label of each column, the background first."""
        return self.footage.object_ids

    @property
    def names(self) -> tuple[str, ...]:
        return self.footage.names

    @property
    def registered(self) -> Bool[np.ndarray, "K T"]:
        return self.footage.registered

    @property
    def log_scale_range(self) -> Float[np.ndarray, "K 2"]:
        return self.footage.log_scale_range

    @property
    def largest_scale(self) -> Float[np.ndarray, " K"]:
        """Upper end of each object's interval; where none is valid, by what it hides of the background; else +inf."""
        if self.zone is None:
            return np.full(self.n_objects, np.inf)
        return np.exp(self.zone.bounds[:, BACKGROUND] if self.zone.is_empty else self.zone.intervals[:, 1])

    @property
    def assumed_columns(self) -> tuple[int, ...]:
        return self.footage.assumed_columns

    @property
    def fields(self) -> list[ObjectField]:
        return self.model.fields

    @property
    def n_objects(self) -> int:
        """K, the background included."""
        return len(self.object_ids)

    @property
    def device(self) -> torch.device:
        return self.model.cameras.given.device

    @property
    def cam_from_obj(self) -> Float[np.ndarray, "K T 4 4"]:
        """Refined poses, each in its object's own unit."""
        with torch.no_grad():
            return self.model.cameras.all_poses().double().cpu().numpy()

    @property
    def boxes(self) -> Float[np.ndarray, "K 2 3"]:
        """Least and greatest corner of each object's content in its own frame (background: of its near, bounded content)."""
        corners = [(f.box.centre - f.box.half_extent, f.box.centre + f.box.half_extent) for f in self.fields]
        return np.array([[low.cpu().double().numpy(), high.cpu().double().numpy()] for low, high in corners])

    @torch.no_grad()
    def render(
        self,
        *,
        t: int,
        scale: Float[np.ndarray, " K"],
        view_from_world: Float[np.ndarray, "4 4"] | None = None,
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> View:
        """The scene at frame t under one scale combination.

        view_from_world: camera to render (world = background frame); None = the filming camera at t. Every place has the colour
            that it had for the filming camera at t: what a field knows of colours by direction is the light on an object that
            turns, and of directions that nobody filmed from it knows nothing.
        intrinsics: at `width` x `height`; None = the video's, resized.
        Raises InputError: the background has no pose at t, so there is no scene to show.
        """
        if not 0 <= t < self.n_frames or not self.registered[0, t]:
            raise InputError(
                f"frame {t} has no camera pose; choose one of the {int(self.registered[0].sum())} registered frames"
            )
        width, height = width or self.width, height or self.height
        if intrinsics is None:
            intrinsics = scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        poses = self.cam_from_obj[:, t]
        nearest, filmed_from = list(self.model.nearest), None
        if view_from_world is not None:
            filmed_from = invert(poses)[:, :3, 3]
            poses = np.stack(
                [viewed_cam_from_obj(view_from_world, poses[0], pose, float(s)) for pose, s in zip(poses, scale, strict=True)]
            )
            nearest = [VIEW_NEAREST * depth for depth in nearest]
        scales = torch.as_tensor(np.asarray(scale)[None], dtype=torch.float32, device=self.device)

        def rendered(chunk: tuple[list[Rays], int]) -> tuple[Tensor, ...]:
            rays, n = chunk
            wanted = torch.from_numpy(self.registered[:, t]).to(self.device).expand(n, -1)
            samples = self.model.samples(
                rays, wanted=wanted, kept=torch.zeros_like(wanted), settings=self.marching, nearest=nearest
            )
            weights = sample_weights(samples, scales)
            result, opacity = blended(samples, scales, weights), weights[0].sum((1, 2))
            depth = surface_depth(weights[0].flatten(1), (samples.depth * scales[0][:, None]).flatten(1))
            column = torch.where(opacity > 0.5, result.weights[0].argmax(-1), UNKNOWN)
            return result.rgb[0], depth, column, opacity

        chunks = self._chunks(poses, intrinsics, width, height, filmed_from)
        parts = list(tensors_in_threads(rendered, chunks, self.device))
        colours, depths, columns, opacities = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        ids = np.full(256, UNKNOWN, np.uint8)
        ids[: self.n_objects] = self.object_ids
        size = (height, width)
        return View(
            colours.reshape(*size, 3).clip(0, 1).astype(np.float32),
            depths.reshape(size).astype(np.float32),
            ids[columns].reshape(size),
            opacities.reshape(size).clip(0, 1).astype(np.float32),
        )

    def _chunks(
        self,
        poses: Float[np.ndarray, "K 4 4"],
        intrinsics: Float[np.ndarray, "3 3"],
        width: int,
        height: int,
        seen_from: Float[np.ndarray, "K 3"] | None = None,
    ) -> list[tuple[list[Rays], int]]:
        """Rays of an image in every object's own frame, in pieces that fit the cache."""
        directions = ray_directions(intrinsics, pixel_centres(width, height).reshape(-1, 2))
        directions_cam = torch.as_tensor(directions, dtype=torch.float32, device=self.device)
        cam_from_obj = torch.as_tensor(poses, dtype=torch.float32, device=self.device)
        eyes = None if seen_from is None else torch.as_tensor(seen_from, dtype=torch.float32, device=self.device)
        chunks = []
        for piece in directions_cam.split(RAYS_PER_CHUNK):
            rays = [object_rays(pose.expand(len(piece), 4, 4), piece) for pose in cam_from_obj]
            if eyes is not None:
                rays = [replace(ray, seen_from=eye) for ray, eye in zip(rays, eyes, strict=True)]
            chunks.append((rays, len(piece)))
        return chunks

    @torch.no_grad()
    def alone_maps(self, *, width: int, frames: Sequence[int], rays_of: Bool[np.ndarray, "T K h w"] | None = None) -> AloneMaps:
        """Every object rendered by itself in the given frames (filming camera, own units): independent of any scale.

        rays_of: the rays to render for each object, to save the rest (+inf there); None = all rays for all objects.
        """
        height = max(1, round(self.height * width / self.width))
        intrinsics = scaled_intrinsics(self.intrinsics, width / self.width, height / self.height)
        poses = self.cam_from_obj
        shape = (len(frames), self.n_objects, height, width)
        depth, opacity = np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32)

        def rendered(i: int) -> np.ndarray:
            """Depth and opacity, (2, K, h, w)."""
            found, first = [], 0
            for rays, n in self._chunks(poses[:, frames[i]], intrinsics, width, height):
                wanted = torch.from_numpy(self.registered[:, frames[i]]).to(self.device).expand(n, -1)
                if rays_of is not None:
                    asked = rays_of[i].reshape(self.n_objects, -1)[:, first : first + n]
                    wanted = wanted & torch.from_numpy(asked.T.copy()).to(self.device)
                    first += n
                samples = self.model.samples(
                    rays, wanted=wanted, kept=torch.zeros_like(wanted), settings=self.marching, with_colour=False
                )
                weights = samples.own_weights()
                surface = surface_depth(weights.flatten(0, 1), samples.depth.flatten(0, 1)).view(n, -1)
                found.append(torch.stack([surface, weights.sum(-1)]))
            return torch.cat(found, 1).cpu().numpy().transpose(0, 2, 1).reshape(2, *shape[1:])

        for i, (d, o) in enumerate(tensors_in_threads(rendered, range(len(frames)), self.device)):
            depth[i] = np.where(o > MIN_HIT_OPACITY, d, np.inf)
            opacity[i] = o.clip(0, 1)
        chosen = np.asarray(frames, int)
        return AloneMaps(
            depth=depth,
            opacity=opacity,
            column=at_pixel_centres(self.footage.columns[list(frames)], width, height),
            frames=chosen,
            intrinsics=intrinsics,
            cam_from_obj=poses[:, chosen],
            registered=self.registered[:, chosen],
        )

    def save(self, folder: Path) -> None:
        """Write scene.json, weights.safetensors and footage.npz, and where they exist zone.npz and network.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "scene.json", self._described())
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        f = self.footage
        np.savez_compressed(folder / "footage.npz", registered=f.registered, columns=f.columns)
        if self.zone is not None:
            write_arrays(folder / "zone.npz", self.zone.arrays())
        if self.evidence is not None:
            self.evidence.save(folder / "evidence.npz")
        if self.network is not None:
            save_file({k: v.cpu().contiguous() for k, v in self.network.state_dict().items()}, folder / "network.safetensors")

    def _described(self) -> dict[str, Any]:
        f = self.footage
        return {
            "intrinsics": f.intrinsics.tolist(),
            "width": f.width,
            "height": f.height,
            "n_frames": f.n_frames,
            "fps": f.fps,
            "object_ids": list(f.object_ids),
            "names": list(f.names),
            "log_scale_range": f.log_scale_range.tolist(),
            "assumed_columns": list(f.assumed_columns),
            "marching": asdict(self.marching),
            "objects": [
                {
                    "size": asdict(field.size),
                    "resolution": field.resolution,
                    "cache_resolution": self.model.cache(column).resolution,
                    "box_centre": field.box.centre.tolist(),
                    "box_half_extent": field.box.half_extent.tolist(),
                    "box_share": field.share,
                    "nearest": nearest,
                }
                for column, (field, nearest) in enumerate(zip(self.fields, self.model.nearest, strict=True))
            ],
        }

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Scene":
        """Raises WorkspaceError: the files are missing or not a scene."""
        described = read_json(folder / "scene.json")
        check("objects" in described and "marching" in described, f"{folder / 'scene.json'} does not describe a scene")
        arrays = read_arrays(folder / "footage.npz")
        footage = Footage(
            intrinsics=np.array(described["intrinsics"], float),
            log_scale_range=np.array(described["log_scale_range"], float),
            object_ids=tuple(described["object_ids"]),
            names=tuple(described["names"]),
            registered=arrays["registered"],
            columns=arrays["columns"],
            assumed_columns=tuple(described["assumed_columns"]),
            **{name: described[name] for name in ("width", "height", "n_frames", "fps")},
        )
        model = model_from_description(described["objects"], footage.n_frames)
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        zone_path, network_path = folder / "zone.npz", folder / "network.safetensors"
        zone = Zone.from_arrays(read_arrays(zone_path)) if zone_path.is_file() else None
        network = ScaleNetwork.from_state(load_file(network_path)).to(device) if network_path.is_file() else None
        evidence = OcclusionEvidence.load(folder / "evidence.npz") if (folder / "evidence.npz").is_file() else None
        return cls(footage, model.to(device).eval(), Marching(**described["marching"]), zone, network, evidence)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An npz file of named arrays."""
    named: dict[str, Any] = dict(arrays)
    np.savez(path, **named)


MIN_HIT_OPACITY = 0.02
"""Below this an object rendered alone counts as not hit."""


def model_from_description(objects: list[dict[str, Any]], n_frames: int) -> SceneModel:
    """An untrained model of the described shapes, ready for its weights."""
    boxes = [Box(torch.tensor(one["box_centre"]), torch.tensor(one["box_half_extent"]), one["box_share"]) for one in objects]
    sizes = [FieldSize(**(one["size"] | {"kind": FieldKind(one["size"]["kind"])})) for one in objects]
    identity = torch.eye(4).expand(len(objects), n_frames, 4, 4)
    nearest = torch.tensor([one["nearest"] for one in objects])
    resolutions, cached = [one["resolution"] for one in objects], [one["cache_resolution"] for one in objects]
    return SceneModel(boxes, sizes, resolutions, cached, identity, nearest)
