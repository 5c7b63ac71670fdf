"""From rays to samples: propose where surfaces are, query the field there, and ask for colour only where it counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipelines.scene.compositing import RaySamples, own_weights
from pipelines.scene.fields import ObjectField
from pipelines.scene.occupancy import DensityCache
from pipelines.scene.rays import Rays, proposed_weights, resampled, span, widened, with_expected


@dataclass(frozen=True)
class Marching:
    """How finely rays are sampled."""

    n_bins: int
    """Cells of the coarse division in which the density cache is read."""
    n_samples: int
    """Queries of the field per ray and object."""
    floor: float
    """Share of the samples spread evenly, whatever the cache proposes."""
    min_colour_weight: float
    """Samples whose weight within their own object is below this have no colour (they stay black)."""
    min_cached_opacity: float
    """Rays on which the cache sees less opacity than this do not meet the object at all."""


@dataclass(frozen=True)
class Marched:
    """One object's samples on the rays `rows` of a batch."""

    rows: Int[Tensor, " m"]
    depth: Float[Tensor, "m samples"]
    tau: Float[Tensor, "m samples"]
    rgb: Float[Tensor, "m samples 3"]

    def weights(self) -> Float[Tensor, "m samples"]:
        """Rendering weights of the object by itself."""
        return own_weights(self.tau)


def chosen_rows(mask: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Indices where the mask holds; on a GPU all of them, because compaction would make the host wait for the device."""
    if mask.device.type == "cuda":
        return torch.arange(len(mask), device=mask.device)
    return mask.nonzero()[:, 0]


def march(
    field: ObjectField,
    cache: DensityCache,
    rays: Rays,
    *,
    wanted: Bool[Tensor, " n"],
    kept: Bool[Tensor, " n"],
    nearest: float,
    settings: Marching,
    with_colour: bool = True,
    expected: Float[Tensor, " n"] | None = None,
    generator: torch.Generator | None = None,
) -> Marched:
    """Samples of one object on those rays that meet it.

    wanted: rays on which the object may be; kept: of those, rays that stay even where the cache sees nothing.
    nearest: no sample is nearer than this z-depth (own unit). expected: z-depth that is sampled whatever the cache proposes,
    0 for none. With a generator the samples are jittered (training).
    """
    box = field.box
    with torch.no_grad():
        detached = Rays(rays.origins.detach(), rays.directions.detach())
        reach = span(box, detached, nearest)
        crosses = wanted & reach.hits
        rows = chosen_rows(crosses)
        detached, reach = detached[rows], reach.everywhere()[rows]
        shares = torch.linspace(0, 1, settings.n_bins + 1, device=rows.device).expand(len(rows), -1)
        bins = reach.depth(shares)
        weights, cached_opacity = proposed_weights(cache, box, detached, bins)
        if expected is not None:
            weights = with_expected(weights, bins, expected[rows])
        meets = (cached_opacity > settings.min_cached_opacity) | kept[rows]
        still = chosen_rows(meets)
        valid = crosses[rows][still] & meets[still]
        rows, reach = rows[still], reach[still]
        edges = reach.depth(resampled(widened(weights[still]), settings.n_samples, settings.floor, generator))
    rays = rays[rows]
    depth = 0.5 * (edges[:, 1:] + edges[:, :-1])
    length = (edges[:, 1:] - edges[:, :-1]) * rays.directions.norm(dim=-1, keepdim=True)
    points = rays.points(depth)
    density = field.density(points.flatten(0, 1))
    if generator is not None:
        cache.observe(box.grid_from_obj(points.detach().flatten(0, 1)), density.detach())
    tau = density.view_as(depth) * length
    tau = torch.where(valid[:, None], tau, torch.zeros_like(tau))
    rgb = points.new_zeros(points.shape)
    if with_colour:
        rgb = _colours(field, points, rays, tau.detach(), settings.min_colour_weight)
    return Marched(rows, depth, tau, rgb)


def _colours(
    field: ObjectField,
    points: Float[Tensor, "m samples 3"],
    rays: Rays,
    tau: Float[Tensor, "m samples"],
    min_weight: float,
) -> Float[Tensor, "m samples 3"]:
    counts = (own_weights(tau) > min_weight).flatten()
    asked = chosen_rows(counts)
    places = points.flatten(0, 1)[asked]
    if rays.seen_from is None:
        directions = rays.directions[torch.div(asked, tau.shape[1], rounding_mode="floor")]
    else:
        directions = places - rays.seen_from
    colours = field.colour(places, directions) * counts[asked, None]
    flat = points.new_zeros((tau.numel(), 3))
    return flat.index_copy(0, asked, colours.to(flat.dtype)).view(*tau.shape, 3)


def cut(marched: Marched) -> Marched:
    """The same samples as leaves of a graph of their own: gradients gather in `tau.grad` and `rgb.grad`."""
    return replace(marched, tau=marched.tau.detach().requires_grad_(), rgb=marched.rgb.detach().requires_grad_())


def gathered(marched: Sequence[Marched], n_rays: int) -> RaySamples:
    """All objects' samples on one batch of rays; rays that miss an object have samples of no thickness there."""
    shape = (n_rays, marched[0].depth.shape[1])
    depth, tau, rgb = [], [], []
    for one in marched:
        depth.append(one.depth.new_zeros(shape).index_copy(0, one.rows, one.depth))
        tau.append(one.tau.new_zeros(shape).index_copy(0, one.rows, one.tau))
        rgb.append(one.rgb.new_zeros((*shape, 3)).index_copy(0, one.rows, one.rgb))
    return RaySamples(torch.stack(depth, 1), torch.stack(tau, 1), torch.stack(rgb, 1))
