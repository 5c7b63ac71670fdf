"""Procedural textures: square tiles that repeat without a seam, rich at every scale so that points can be tracked on them.

A tile is a float32 array (n, n, 3) of albedo in [0, 1]. It is laid on a surface from three sides (triplanar mapping),
so no surface needs texture coordinates, and is read through a pyramid so that far surfaces don't flicker.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

Tile = Float32[np.ndarray, "side side 3"]
Palette = Float[np.ndarray, "colours 3"]
_LUMINANCE_CONTRAST = 0.16
"""Standard deviation of the multi-scale brightness pattern that is laid over every style."""
_NEGLIGIBLE_WEIGHT = 0.02


@dataclass(frozen=True)
class Material:
    """A texture and its size: one repetition covers `tile_size` length units. `pyramid[l]` has n / 2^l texels a side."""

    pyramid: tuple[np.ndarray, ...]
    tile_size: float

    @classmethod
    def of_tile(cls, tile: Tile, tile_size: float) -> "Material":
        pyramid: list[np.ndarray] = [tile]
        while len(pyramid[-1]) > 8:
            finer = pyramid[-1]
            pyramid.append((finer[::2, ::2] + finer[1::2, ::2] + finer[::2, 1::2] + finer[1::2, 1::2]) / 4)
        return cls(tuple(pyramid), tile_size)

    def albedo(
        self,
        points: Float[np.ndarray, "n 3"],
        normals: Float[np.ndarray, "n 3"],
        footprint: Float[np.ndarray, " n"],
    ) -> Float32[np.ndarray, "n 3"]:
        """Albedo at surface points, from the tile projected along the three axes and blended by the normal.

        footprint: width of what one image sample covers on the surface, in length units; picks the pyramid's level.
        """
        weights = np.square(normals)
        weights *= weights * weights  # |n|^6: each side keeps most of its face to itself
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
        weights[weights < _NEGLIGIBLE_WEIGHT] = 0
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
        texels = np.maximum(footprint, 1e-9) * len(self.pyramid[0]) / self.tile_size
        level = np.clip(np.log2(texels), 0, len(self.pyramid) - 1).astype(np.float32)
        albedo = np.zeros((len(points), 3), np.float32)
        for axis in range(3):
            used = np.flatnonzero(weights[:, axis])
            if len(used):
                uv = points[used][:, [(axis + 1) % 3, (axis + 2) % 3]] / np.float32(self.tile_size) + np.float32(0.37 * axis)
                albedo[used] += weights[used, axis, None] * self._read(uv, level[used])
        return albedo

    def _read(self, uv: Float[np.ndarray, "n 2"], level: Float[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Trilinear look-up; uv repeats with period 1."""
        read = np.zeros((len(uv), 3), np.float32)
        for number, tile in enumerate(self.pyramid):
            weight = 1 - np.abs(level - number)
            used = np.flatnonzero(weight > 0)
            if len(used):
                read[used] += weight[used, None] * _bilinear(tile, uv[used])
        return read


def _bilinear(tile: Tile, uv: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
    import cv2

    width = 1024  # OpenCV limits the sides of what it fills, so the points are folded into rows.
    rows = -(-len(uv) // width)
    xy = np.zeros((rows * width, 2), np.float32)
    # A texel's centre lies at half a texel: index = coordinate - 0.5.
    xy[: len(uv)] = (uv % 1.0) * len(tile) - 0.5
    folded = xy.reshape(rows, width, 2)
    return cv2.remap(tile, folded, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).reshape(-1, 3)[: len(uv)]


def pastel_palette(rng: np.random.Generator, n: int, hue: float | None = None, spread: float = 1.0) -> Palette:
    """Soft colours around a hue (spread 0: one hue, 1: all hues), alternating in lightness so that neighbours differ."""
    first = rng.uniform() if hue is None else hue
    # The golden ratio spaces any number of hues evenly.
    hues = first + spread * ((np.arange(n) * 0.618 + rng.uniform(-0.05, 0.05, n)) % 1.0 - 0.5 * (spread < 1))
    lightness = np.where(np.arange(n) % 2, 0.78, 0.6) + rng.uniform(-0.06, 0.06, n)
    saturation = rng.uniform(0.36, 0.6, n)
    colours = zip(hues, lightness, saturation, strict=True)
    return np.array([colorsys.hls_to_rgb(h % 1.0, float(light), float(s)) for h, light, s in colours])


def noise(rng: np.random.Generator, n: int, slope: float, stretch: float = 1.0) -> Float[np.ndarray, "side side"]:
    """Periodic Gaussian noise with amplitude spectrum 1 / f^slope, zero mean, unit deviation. stretch > 1: longer along x."""
    fy, fx = np.meshgrid(np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n, indexing="ij")
    frequency = np.hypot(fy, fx * stretch)
    frequency[0, 0] = np.inf
    spectrum = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency**slope
    field = np.fft.irfft2(spectrum, s=(n, n))
    return (field - field.mean()) / field.std()


def _grid(n: int) -> tuple[Float[np.ndarray, "side side"], Float[np.ndarray, "side side"]]:
    """x and y of the texels' centres in [0, 1)."""
    centres = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(centres, centres)
    return x, y


def patches(rng: np.random.Generator, n: int, palette: Palette) -> Float[np.ndarray, "side side 3"]:
    """Camouflage: level sets of smooth noise, each in its own colour."""
    field = noise(rng, n, 1.7)
    edges = np.quantile(field, np.linspace(0, 1, len(palette) + 1)[1:-1])
    return palette[np.digitize(field, edges)]


def _seeds(
    rng: np.random.Generator, n: int, count: int
) -> tuple[Float[np.ndarray, "side side 2"], Int[np.ndarray, "side side 2"]]:
    """Distance of each texel to its two nearest random seeds on the torus, in tile sides, and their numbers."""
    from scipy.spatial import cKDTree

    x, y = _grid(n)
    distance, nearest = cKDTree(rng.uniform(size=(count, 2)), boxsize=1.0).query(np.stack([x, y], -1), k=2)
    return distance, nearest


def cells(rng: np.random.Generator, n: int, palette: Palette, count: int = 60) -> Float[np.ndarray, "side side 3"]:
    """Crazy paving: Voronoi cells with light joints."""
    distance, nearest = _seeds(rng, n, count)
    colours = palette[rng.integers(len(palette), size=count)] * rng.uniform(0.82, 1.12, (count, 1))
    joint = (distance[..., 1] - distance[..., 0] < 0.012)[..., None]
    return np.where(joint, 0.92 * np.ones(3), colours[nearest[..., 0]])


def confetti(rng: np.random.Generator, n: int, palette: Palette, count: int = 90) -> Float[np.ndarray, "side side 3"]:
    """Discs of many sizes and colours on a plain ground, some with a ring."""
    distance, nearest = _seeds(rng, n, count)
    radius = rng.uniform(0.018, 0.055, count)[nearest[..., 0]]
    colours = palette[1:][rng.integers(len(palette) - 1, size=count)][nearest[..., 0]]
    inner = np.where((rng.uniform(size=count) < 0.4)[nearest[..., 0]], 0.55, 0.0)
    share = distance[..., 0] / radius
    return np.where(((share < 1) & (share > inner))[..., None], colours, palette[0])


def tiles(rng: np.random.Generator, n: int, palette: Palette, count: int = 6) -> Float[np.ndarray, "side side 3"]:
    """Square tiles of random colours with narrow joints, and a small motif in each."""
    x, y = _grid(n)
    column, row = (x * count).astype(int), (y * count).astype(int)
    u, v = x * count - column - 0.5, y * count - row - 0.5
    shade = rng.uniform(0.88, 1.08, (count, count, 1))
    ground = (palette[rng.integers(len(palette), size=(count, count))] * shade)[row, column]
    motif = palette[rng.integers(len(palette), size=(count, count))][row, column]
    power = rng.choice([0.7, 1.0, 2.0, 6.0], size=(count, count))[row, column]
    size = rng.uniform(0.15, 0.36, (count, count))[row, column]
    inside = np.abs(u) ** power + np.abs(v) ** power < size**power
    tiled = np.where(inside[..., None], motif, ground)
    return np.where((np.maximum(np.abs(u), np.abs(v)) > 0.47)[..., None], 0.9 * palette.mean(0), tiled)


def planks(rng: np.random.Generator, n: int, palette: Palette, count: int = 8) -> Float[np.ndarray, "side side 3"]:
    """Floor boards along x with shifted joints and grain."""
    x, y = _grid(n)
    row = (y * count).astype(int)
    shifted = x + rng.uniform(size=count)[row]
    board = (shifted * 2).astype(int) % 2
    colours = (palette[rng.integers(len(palette), size=(count, 2))] * rng.uniform(0.8, 1.1, (count, 2, 1)))[row, board]
    grain = 1 + 0.10 * noise(rng, n, 1.0, stretch=12.0)
    joint = (np.abs(y * count - row - 0.5) > 0.47) | (np.abs((shifted * 2) % 1.0 - 0.5) > 0.495)
    return colours * np.where(joint, 0.6, grain)[..., None]


def speckle(rng: np.random.Generator, n: int, palette: Palette) -> Float[np.ndarray, "side side 3"]:
    """Terrazzo: a plain ground with chips of several colours."""
    ground = np.broadcast_to(palette[0], (n, n, 3))
    for colour in palette[1:]:
        ground = np.where((noise(rng, n, 0.9) > 1.25)[..., None], colour, ground)
    return np.array(ground)


STYLES: tuple[Callable[..., Float[np.ndarray, "side side 3"]], ...] = (patches, cells, confetti, tiles, planks, speckle)


def paint(
    rng: np.random.Generator,
    style: Callable[..., Float[np.ndarray, "side side 3"]],
    palette: Palette,
    n_texels: int,
    tile_size: float,
) -> Material:
    """A tile of the given style with multi-scale brightness laid over it.

    It draws from a generator of its own, so that the scene's layout does not depend on the number of texels.
    """
    own = np.random.default_rng(rng.integers(2**63))
    tile = style(own, n_texels, palette)
    brightness = np.exp(_LUMINANCE_CONTRAST * (0.6 * noise(own, n_texels, 1.0) + 0.6 * noise(own, n_texels, 0.4)))
    return Material.of_tile(np.clip(tile * brightness[..., None], 0.02, 0.98).astype(np.float32), tile_size)


def plain(colour: Float[np.ndarray, "3"]) -> Material:
    """One colour, nothing to track."""
    return Material.of_tile(np.broadcast_to(colour, (8, 8, 3)).astype(np.float32), 1.0)
