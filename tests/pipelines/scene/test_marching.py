"""Samples on rays: what a GPU computes, where no ray may be left out, is what a CPU computes of those that meet the object."""

import pytest
import torch

from pipelines.scene import marching
from pipelines.scene.contraction import Box
from pipelines.scene.fields import FieldKind, FieldSize, ObjectField, make_field
from pipelines.scene.marching import Marching, gathered, march
from pipelines.scene.occupancy import DensityCache
from pipelines.scene.rays import Rays

SIZE = FieldSize(FieldKind.GRID, 2, 2, 3, 10, 32, 16)
SETTINGS = Marching(n_bins=16, n_samples=12, floor=0.1, min_colour_weight=1e-3, min_cached_opacity=1e-3)


def some_rays(n: int = 200) -> Rays:
    """From a camera at z = -4 towards the box and all around it; some go away from it."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(n, 3, generator=generator) * 0.4
    directions[:, 2] = 1
    directions[::7, 2] = -1
    return Rays(torch.tensor([0.0, 0.0, -4.0]).repeat(n, 1), directions)


@pytest.fixture(params=[1.0, 0.5], ids=["mover", "background"])
def field(request) -> ObjectField:
    torch.manual_seed(0)
    made = make_field(Box(torch.zeros(3), torch.tensor([1.0, 0.8, 1.2]), request.param), SIZE, 16)
    with torch.no_grad():
        for table in made.density_tables:
            table.copy_(torch.rand_like(table) * 12)
    return made


def losses_of(field: ObjectField) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What the samples say of each ray, and the gradients of a loss on all of it."""
    field.zero_grad()
    rays, cache = some_rays(), DensityCache(8, 5.0)
    n = len(rays.origins)
    wanted = torch.arange(n) % 5 > 0
    one = march(field, cache, rays, wanted=wanted, kept=wanted, nearest=0.1, settings=SETTINGS)
    samples = gathered([one], n)
    weights = samples.own_weights()
    image = {
        "opacity": weights.sum(-1),
        "depth": (weights * samples.depth).sum(-1),
        "rgb": (weights[..., None] * samples.rgb).sum(-2),
    }
    sum(value.square().mean() for value in image.values()).backward()
    return image, {name: p.grad.clone() for name, p in field.named_parameters() if p.grad is not None}


def test_computing_all_rays_changes_nothing(field, monkeypatch) -> None:
    """On a GPU rays that miss are computed with the others, because choosing them would make the host wait."""
    image, gradients = losses_of(field)
    monkeypatch.setattr(marching, "chosen_rows", lambda mask: torch.arange(len(mask)))
    everything, all_gradients = losses_of(field)
    assert 0.05 < float((image["opacity"] > 0.5).float().mean()) < 0.95
    for name, value in image.items():
        torch.testing.assert_close(everything[name], value, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == all_gradients.keys()
    for name, value in gradients.items():
        torch.testing.assert_close(all_gradients[name], value, atol=1e-6, rtol=1e-4)


def test_colours_are_looked_at_from_where_the_film_was_made(field, monkeypatch) -> None:
    """Seen from elsewhere, a place keeps the colour that it has for the filming camera."""
    monkeypatch.setattr(field, "colour", lambda points, dirs: torch.nn.functional.normalize(dirs, dim=-1))
    eye, rays = torch.tensor([3.0, 0.0, -2.0]), some_rays()
    everything = torch.ones(len(rays.origins), dtype=torch.bool)
    asked = {"wanted": everything, "kept": everything, "nearest": 0.1, "settings": SETTINGS}
    found = march(field, DensityCache(8, 5.0), Rays(rays.origins, rays.directions, eye), **asked)
    places = rays[found.rows].points(found.depth)
    coloured = found.rgb.norm(dim=-1) > 0
    expected = torch.nn.functional.normalize(places - eye, dim=-1)
    assert coloured.any()
    torch.testing.assert_close(found.rgb[coloured], expected[coloured])
    along = march(field, DensityCache(8, 5.0), rays, **asked)
    assert not torch.allclose(along.rgb, found.rgb, atol=0.1)
