"""Real lengths from one known size, such as "object 2 height = 0.3 m".

Monocular video fixes no unit: the background's is arbitrary, and objects' scales are relative to it. One known length of
one object fixes the unit of a sampled scene.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import numpy as np
from jaxtyping import Float

from pipelines.artifacts import BACKGROUND
from pipelines.errors import UsageError

METRES = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3, "in": 0.0254, "ft": 0.3048}
FORM = "'object 2 height = 0.3 m' (height, width or length; mm, cm, m, km, in or ft)"
PATTERN = re.compile(r"\s*(?P<object>.+?)\s+(?P<measure>height|width|length)\s*=\s*(?P<value>[-+.\deE]+)\s*(?P<unit>[a-z]+)\s*")


class Measure(StrEnum):
    """Which extent of an object is known."""

    HEIGHT = "height"
    """Along the exported world's up direction, where the object first appears."""
    WIDTH = "width"
    """The second longest side of the smallest box about the object."""
    LENGTH = "length"
    """The longest side of that box."""


@dataclass(frozen=True)
class KnownSize:
    """One real length of one object, the object given by its column in the scene."""

    column: int
    measure: Measure
    metres: float

    @classmethod
    def parse(cls, text: str, object_ids: tuple[int, ...], names: tuple[str, ...]) -> "KnownSize":
        """Raises UsageError when the text has another form, or names an object that is not in the scene."""
        found = PATTERN.fullmatch(text)
        if found is None or found["unit"] not in METRES:
            raise UsageError(f"metric {text!r} is not understood, expected {FORM}")
        try:
            value = float(found["value"])
        except ValueError:
            value = -1.0
        if not 0 < value < np.inf:
            raise UsageError(f"metric {text!r} gives no positive length, expected {FORM}")
        listed = ", ".join(f"object {k} ({name})" for k, name in zip(object_ids, names, strict=True) if k != BACKGROUND)
        # A name may look like another object's number: numbers are given anew where masks or prompts leave gaps.
        named = {k for k, name in zip(object_ids, names, strict=True) if name == found["object"]}
        numbered = re.fullmatch(r"object\s+(\d+)", found["object"])
        meant = (named | ({int(numbered[1])} if numbered else set())) & set(object_ids) - {BACKGROUND}
        if not meant:
            raise UsageError(f"metric {text!r} names an object that is not in the scene, expected one of: {listed}")
        if len(meant) > 1:
            raise UsageError(f"metric {text!r} may mean several objects, name one by its number or another name: {listed}")
        return cls(object_ids.index(meant.pop()), Measure(found["measure"]), value * METRES[found["unit"]])

    def metres_per_unit(
        self, vertices: Float[np.ndarray, "V 3"], scale: float, upright_from_obj: Float[np.ndarray, "3 3"]
    ) -> float:
        """Metres in one world unit, given the object's vertices in its own unit, its scale and its upright orientation.

        Raises UsageError when the object has no surface to measure.
        """
        if len(vertices) < 4:
            raise UsageError(f"the object of --metric (column {self.column}) has no surface to measure; name another object")
        match self.measure:
            case Measure.HEIGHT:
                own = np.ptp(vertices @ upright_from_obj[1])
            case Measure.WIDTH | Measure.LENGTH:
                import trimesh

                sides = np.sort(trimesh.bounds.oriented_bounds(vertices.astype(float))[1])
                own = sides[-1] if self.measure is Measure.LENGTH else sides[-2]
            case unknown:
                assert_never(unknown)
        return float(self.metres / (scale * own))
