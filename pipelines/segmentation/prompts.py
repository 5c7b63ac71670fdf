"""The prompts file: what a person says about a video's objects. `osn annotate` writes it, `osn segment --prompts` reads it.

    {"version": 1, "width": 384, "height": 288, "base": "automatic",
     "objects": [{"id": 1, "name": "crate"}, {"id": 4, "name": "ring"}],
     "merge": [[1, 2]], "background": [3],
     "prompts": [{"object": 4, "frame": 0, "points": [{"x": 210.5, "y": 130.5, "positive": true}],
                  "box": [190, 110, 240, 160],
                  "strokes": [{"path": [[200, 120], [205, 121]], "radius_px": 3, "positive": false}]}]}

Pixels follow `pipelines.geometry` and refer to frames of `width` x `height`. With base `automatic` ids are those of the
automatic result, which is corrected: `merge` makes one object of each list, `background` makes objects part of the static
surroundings, prompts of a known id extend or cut that object, prompts of a new id take its pixels from whatever had them
(this splits an object). With base `nothing` only prompted objects exist. A stroke paints or erases exactly the pixels that
it covers.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines.artifacts import MAX_OBJECTS, write_json
from pipelines.errors import InputError

ASPECT_TOLERANCE = 0.02


class Base(StrEnum):
    """What the prompts add to."""

    AUTOMATIC = "automatic"
    NOTHING = "nothing"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(_Part):
    """A click on the object, or beside it."""

    x: float
    y: float
    positive: bool = True


class Stroke(_Part):
    """A brush stroke that paints pixels as the object's, or erases them."""

    path: tuple[tuple[float, float], ...] = Field(min_length=1)
    radius_px: float = Field(gt=0)
    positive: bool = True


class ObjectPrompt(_Part):
    """Everything said about one object in one frame."""

    object: int = Field(ge=1, lt=MAX_OBJECTS)
    frame: int = Field(ge=0)
    points: tuple[Point, ...] = ()
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1 of the edges."""
    strokes: tuple[Stroke, ...] = ()

    def xy_px(self, *, positive: bool) -> Float[np.ndarray, "n 2"]:
        return np.array([[p.x, p.y] for p in self.points if p.positive is positive], float).reshape(-1, 2)

    def painted(self, height: int, width: int, *, positive: bool) -> Bool[np.ndarray, "H W"]:
        """Pixels that strokes of one kind cover."""
        import cv2

        canvas = np.zeros((height, width), np.uint8)
        # OpenCV counts pixel centres at whole numbers; the last four bits are fractions of a pixel.
        for stroke in (s for s in self.strokes if s.positive is positive):
            corners = np.round((np.array(stroke.path) - 0.5) * 16).astype(np.int32)
            cv2.polylines(canvas, [corners], False, 1, max(1, round(2 * stroke.radius_px)), cv2.LINE_8, 4)
            for corner in corners[[0, -1]]:
                cv2.circle(canvas, corner.tolist(), round(stroke.radius_px * 16), 1, -1, cv2.LINE_8, 4)
        return canvas.astype(bool)

    def resized(self, factor_x: float, factor_y: float) -> "ObjectPrompt":
        """The same prompt on frames of another size."""
        fx, fy = factor_x, factor_y
        points = tuple(Point(x=p.x * fx, y=p.y * fy, positive=p.positive) for p in self.points)
        strokes = tuple(
            Stroke(path=tuple((x * fx, y * fy) for x, y in s.path), radius_px=s.radius_px * (fx + fy) / 2, positive=s.positive)
            for s in self.strokes
        )
        box = None if self.box is None else (self.box[0] * fx, self.box[1] * fy, self.box[2] * fx, self.box[3] * fy)
        return ObjectPrompt(object=self.object, frame=self.frame, points=points, box=box, strokes=strokes)


ObjectId = Annotated[int, Field(ge=1, lt=MAX_OBJECTS)]


class NamedObject(_Part):
    id: ObjectId
    name: str


class PromptFile(_Part):
    """See the module's description."""

    version: Literal[1] = 1
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    base: Base = Base.AUTOMATIC
    model: str | None = None
    """Weights of a learned model that answers points and boxes (a name of `osn weights list`); none: motion and colour do."""
    objects: tuple[NamedObject, ...] = ()
    merge: tuple[tuple[ObjectId, ...], ...] = ()
    background: tuple[ObjectId, ...] = ()
    prompts: tuple[ObjectPrompt, ...] = ()

    @field_validator("merge")
    @classmethod
    def _without_circles(cls, merge: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        into = {other: first for first, *others in filter(None, merge) for other in others if other != first}
        for start in into:
            at = start
            for _ in into:
                at = into.get(at, at)
            if at in into:
                raise ValueError(f"object {start} becomes part of itself: merges must not go in a circle")
        return merge

    @classmethod
    def load(cls, path: Path) -> "PromptFile":
        """Raises InputError: missing, not JSON, or not of this form (the message says where)."""
        try:
            return cls.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}): make it with osn annotate") from None
        except ValueError as error:
            raise InputError(f"{path} is not JSON ({error}): make it with osn annotate") from None

    @classmethod
    def parse(cls, content: object, source: str) -> "PromptFile":
        """Raises InputError: not of this form."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise InputError(f"{source} is not a prompts file: {where}: {first['msg'].lower()}") from None

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    def fitted(self, width: int, height: int, n_frames: int) -> "PromptFile":
        """The same prompts for frames of this size.

        Raises InputError: another aspect ratio, or a prompt beyond the last frame.
        """
        fx, fy = width / self.width, height / self.height
        if abs(fx / fy - 1) > ASPECT_TOLERANCE:
            raise InputError(f"the prompts are for frames of {self.width}x{self.height} px, the video has {width}x{height} px")
        beyond = [prompt.frame for prompt in self.prompts if prompt.frame >= n_frames]
        if beyond:
            raise InputError(f"a prompt is for frame {beyond[0]}, but the video has frames 0 to {n_frames - 1}")
        prompts = tuple(prompt.resized(fx, fy) for prompt in self.prompts)
        return self.model_copy(update={"width": width, "height": height, "prompts": prompts})

    def of_object(self, object_id: int) -> list[ObjectPrompt]:
        """An object's prompts by frame; of two for one frame the later one counts."""
        return [prompt for _, prompt in sorted({p.frame: p for p in self.prompts if p.object == object_id}.items())]

    @property
    def prompted(self) -> Sequence[int]:
        return sorted({prompt.object for prompt in self.prompts})
