"""What stands still: a playroom or a yard, different for every seed. World axes: z up, floor at z = 0, stage around the origin.

The camera stands on the -y side and looks towards +y. Everything within `STAGE_RADIUS` of the origin's axis, except the
front pillar, is left to the movers.
"""

import numpy as np
from jaxtyping import Float

from pipelines import geometry
from pipelines.synthetic import shapes, textures
from pipelines.synthetic.bodies import Body, Part
from pipelines.synthetic.spec import Surroundings
from pipelines.synthetic.textures import Material

STAGE_RADIUS = 1.9


def make_surroundings(kind: Surroundings, rng: np.random.Generator, n_texels: int, resolution: int) -> Body:
    """The static body. n_texels: side of the texture tiles; resolution: cubes along a prop's longest side."""
    match kind:
        case Surroundings.ROOM:
            shell = _room(rng, n_texels)
        case Surroundings.YARD:
            shell = _yard(rng, n_texels)
    return Body([*shell, *_props(rng, n_texels, resolution)])


def at(position: shapes.Vector, yaw_rad: float = 0.0) -> Float[np.ndarray, "4 4"]:
    """Placed in the world, turned about the vertical."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return geometry.rigid(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(position, float))


def _slab(half: shapes.Vector, position: shapes.Vector, material: Material) -> Part:
    """Part of the shell; it must not shade what it encloses."""
    return Part(shapes.flat_box(half), at(position), material, casts_shadow=False)


def _room(rng: np.random.Generator, n_texels: int) -> list[Part]:
    wall_hue, floor_hue = rng.uniform(), rng.uniform(0.04, 0.12)
    papers = [textures.confetti, textures.patches, textures.cells, textures.tiles]
    floors = [textures.planks, textures.tiles, textures.speckle]

    def wall(shift: float) -> Material:
        palette = 0.35 + 0.65 * textures.pastel_palette(rng, 5, wall_hue + shift, 0.25)
        return textures.paint(rng, papers[rng.integers(len(papers))], palette, n_texels, rng.uniform(1.9, 2.6))

    floor_palette = textures.pastel_palette(rng, 5, floor_hue, 0.12)
    floor = textures.paint(rng, floors[rng.integers(len(floors))], floor_palette, n_texels, 2.4)
    rug_style = [textures.patches, textures.tiles, textures.cells][rng.integers(3)]
    rug = textures.paint(rng, rug_style, textures.pastel_palette(rng, 6), n_texels, rng.uniform(1.5, 2.2))
    back, height = rng.uniform(2.9, 3.5), 3.2
    side = rng.uniform(3.6, 3.9)
    return [
        _slab((side + 1, 6.6, 0.5), (0, -1.5, -0.5), floor),
        _slab((rng.uniform(1.5, 2.0), rng.uniform(1.2, 1.5), 0.012), (0, 0.1, 0), rug),
        _slab((side + 1, 0.5, height), (0, back + 0.5, height - 0.1), wall(0.0)),
        _slab((0.5, 6.6, height), (-side - 0.5, -1.5, height - 0.1), wall(0.08)),
        _slab((0.5, 6.6, height), (side + 0.5, -1.5, height - 0.1), wall(-0.08)),
        _slab((side + 1, 0.5, height), (0, -8.2, height - 0.1), wall(0.16)),
        _slab((side + 1, 6.6, 0.5), (0, -1.5, 2 * height), wall(0.2)),
        _slab((side, 0.03, 0.09), (0, back, 0.05), textures.paint(rng, textures.planks, floor_palette * 0.85, n_texels, 1.2)),
    ]


def _yard(rng: np.random.Generator, n_texels: int) -> list[Part]:
    greens = textures.pastel_palette(rng, 5, rng.uniform(0.18, 0.38), 0.2)
    ground = textures.paint(rng, textures.patches, greens, n_texels, 2.2)
    paving_palette = 0.2 + 0.75 * textures.pastel_palette(rng, 5, rng.uniform(), 0.3)
    paving = textures.paint(rng, [textures.cells, textures.tiles][rng.integers(2)], paving_palette, n_texels, 2.0)
    blues = np.array([[0.55, 0.74, 0.92], [0.62, 0.79, 0.94], [0.72, 0.85, 0.95], [0.93, 0.95, 0.97]])
    sky = textures.paint(rng, textures.patches, blues, n_texels, 18.0)
    parts = [
        _slab((30, 30, 0.5), (0, 0, -0.5), ground),
        _slab((2.4, 2.0, 0.012), (0, 0.1, 0), paving),
        Part(shapes.flat_box((29, 29, 29), inward=True), at((0, 0, 0)), sky, casts_shadow=False),
    ]
    for x in np.linspace(-7.5, 7.5, 5) + rng.uniform(-0.5, 0.5, 5):
        half = (rng.uniform(1.1, 1.7), 1.2, rng.uniform(1.2, 2.4))
        palette = textures.pastel_palette(rng, 5, rng.uniform(), 0.3)
        wall = textures.paint(rng, [textures.tiles, textures.planks][rng.integers(2)], palette, n_texels, rng.uniform(1.6, 2.4))
        parts.append(_slab(half, (x, rng.uniform(5.5, 8.5), half[2]), wall))
    return parts


def _props(rng: np.random.Generator, n_texels: int, resolution: int) -> list[Part]:
    """Toy blocks, drums and pillars around the stage, and one slim pillar in front that hides movers for a while."""

    def material() -> Material:
        style = textures.STYLES[rng.integers(len(textures.STYLES))]
        return textures.paint(rng, style, textures.pastel_palette(rng, 6), n_texels, rng.uniform(0.8, 1.3))

    def block(half: Float[np.ndarray, "3"]) -> shapes.Shape:
        reach = half + 0.02
        return shapes.mesh_shape(shapes.rounded_box((0, 0, 0), half, 0.06), reach, resolution)

    def drum(radius: float, half_height: float) -> shapes.Shape:
        solid = shapes.rounded_cylinder((0, 0, 0), radius, half_height, 0.05)
        return shapes.mesh_shape(solid, (radius + 0.02, radius + 0.02, half_height + 0.02), resolution)

    parts = []
    for angle in np.radians([25, 62, 95, 128, 160]) + rng.uniform(-0.1, 0.1, 5):
        distance = rng.uniform(2.35, 2.7)
        if rng.uniform() < 0.6:
            half = rng.uniform([0.2, 0.2, 0.25], [0.4, 0.34, 0.75])
            parts.append(Part(block(half), at((*(distance * _direction(angle)), half[2]), rng.uniform(0, 1.5)), material()))
        else:
            radius, half_height = rng.uniform(0.18, 0.32), rng.uniform(0.3, 1.0)
            parts.append(Part(drum(radius, half_height), at((*(distance * _direction(angle)), half_height)), material()))
    radius, half_height = rng.uniform(0.1, 0.15), rng.uniform(0.6, 1.0)
    place = (rng.choice([-1, 1]) * rng.uniform(0.55, 0.95), rng.uniform(-1.35, -1.1), half_height)
    return [*parts, Part(drum(radius, half_height), at(place), material())]


def _direction(angle_rad: float) -> Float[np.ndarray, "2"]:
    return np.array([np.cos(angle_rad), np.sin(angle_rad)])
