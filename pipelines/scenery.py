"""What rendering, export, meshing and evaluation need of a scene, without importing torch.

`pipelines.scene.scene.Scene` satisfies it.
Frames and units: each object has its own frame and length unit; the world is the background's frame (DESIGN sections 1 and 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8


@runtime_checkable
class FieldLike(Protocol):
    """One object's density and colour."""

    def query(self, points: Any, dirs: Any) -> tuple[Any, Any]:
        """Tensors (N, 3) and unit directions (N, 3) in the object's own frame -> density (N,) per own unit, rgb (N, 3)."""
        ...


@runtime_checkable
class ViewLike(Protocol):
    """One rendered image: rgb (h, w, 3) in [0, 1], z-depth (h, w) in world units, label ids (h, w), opacity (h, w).

    Where nothing is solid the label is 255 (unknown); where nothing at all is, depth is 0.
    """

    @property
    def rgb(self) -> np.ndarray: ...

    @property
    def depth(self) -> np.ndarray: ...

    @property
    def label(self) -> np.ndarray: ...

    @property
    def opacity(self) -> np.ndarray: ...


@dataclass(frozen=True)
class View:
    """One rendered image. Depth is in world units, 0 where opacity is 0; label ids, 255 where nothing is solid."""

    rgb: Float32[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]
    label: UInt8[np.ndarray, "h w"]
    opacity: Float32[np.ndarray, "h w"]


@runtime_checkable
class AloneMapsLike(Protocol):
    """Each object rendered alone in some filmed frames.

    depth, opacity (T', K, h, w): depth in the object's own unit, +inf where not hit; column (T', h, w): the scene column
    that the mask says is seen, 255 unknown; frames (T',); intrinsics (3, 3) at h x w; cam_from_obj (K, T', 4, 4);
    registered (K, T').
    """

    @property
    def depth(self) -> np.ndarray: ...

    @property
    def opacity(self) -> np.ndarray: ...

    @property
    def column(self) -> np.ndarray: ...

    @property
    def frames(self) -> np.ndarray: ...

    @property
    def intrinsics(self) -> np.ndarray: ...

    @property
    def cam_from_obj(self) -> np.ndarray: ...

    @property
    def registered(self) -> np.ndarray: ...


@runtime_checkable
class SceneLike(Protocol):
    """A trained scene of K objects over T frames. Arrays: intrinsics (3, 3) at full size, cam_from_obj (K, T, 4, 4),
    registered (K, T), boxes (K, 2, 3): each object's content in its own frame (background: the near, bounded content)."""

    @property
    def intrinsics(self) -> np.ndarray: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def n_frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def cam_from_obj(self) -> np.ndarray: ...

    @property
    def registered(self) -> np.ndarray: ...

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def largest_scale(self) -> np.ndarray:
        """What each object's scale (K,) can be at most, by what it hides of the background; +inf where nothing says so."""
        ...

    @property
    def fields(self) -> Sequence[Any]: ...

    @property
    def device(self) -> Any:
        """Torch device that the fields are queried on."""
        ...

    def render(
        self,
        *,
        t: int,
        scale: np.ndarray,
        view_from_world: np.ndarray | None = None,
        intrinsics: np.ndarray | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> Any: ...

    def alone_maps(self, *, width: int, frames: Sequence[int], rays_of: np.ndarray | None = None) -> Any:
        """`AloneMapsLike` of some frames; rays_of (T', K, h, w): the rays to render for each object, None for all."""
        ...


@runtime_checkable
class EvaluatedScene(SceneLike, Protocol):
    """A scene that also knows something about its scales (`pipelines.scene.scene.Scene` satisfies it)."""

    @property
    def zone(self) -> Any:
        """`pipelines.scene.zone.Zone`, or None."""
        ...

    @property
    def network(self) -> Any:
        """Scores log scales (n, K) by their probability of being valid; or None."""
        ...
