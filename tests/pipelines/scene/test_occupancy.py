import torch

from pipelines.scene.contraction import Box
from pipelines.scene.occupancy import DensityCache

BOX = Box(torch.zeros(3), torch.full((3,), 2.0))


def ball_density(points: torch.Tensor) -> torch.Tensor:
    """Solid ball of radius 1."""
    return torch.where(points.norm(dim=-1) < 1, 50.0, 0.0)


def test_no_seen_surface_is_ever_dropped_and_empty_space_is_forgotten() -> None:
    cache = DensityCache(16, start=1.0)
    generator = torch.Generator().manual_seed(0)
    inside = torch.randn(4000, 3, generator=generator)
    inside = inside / inside.norm(dim=-1, keepdim=True) * torch.rand(4000, 1, generator=generator) ** (1 / 3) * 0.98
    for _ in range(60):
        # Rays keep querying the solid; between that, all cells fade.
        cache.observe(BOX.grid_from_obj(inside), ball_density(inside))
        cache.refresh(BOX, ball_density, share=0.5, decay=0.9, generator=generator)
    assert float(cache.at(BOX.grid_from_obj(inside)).min()) > 10.0
    corners = BOX.obj_from_grid(torch.tensor([[0.95, 0.95, 0.95], [-0.9, 0.9, 0.9]]))
    assert float(cache.at(BOX.grid_from_obj(corners)).max()) < 0.5


def test_marked_points_and_their_neighbours_are_proposed() -> None:
    cache = DensityCache(16, start=0.0)
    cache.mark(torch.tensor([[0.03, 0.03, 0.03]]), 7.0)
    assert float(cache.at(torch.tensor([[0.03, 0.03, 0.03]]))) == 7.0
    assert float(cache.at(torch.tensor([[0.03 + 0.125, 0.03, 0.03 - 0.125]]))) == 7.0
    assert float(cache.density.sum()) == 27 * 7.0


def test_centres_fall_into_their_own_cells() -> None:
    cache = DensityCache(5, start=0.0)
    cells = torch.arange(125)
    assert torch.equal(cache.cells(cache.centres(cells)), cells)


def test_rebuilding_forgets_what_is_no_longer_there_and_finds_what_is() -> None:
    cache = DensityCache(16, start=30.0)
    cache.rebuild(BOX, ball_density, torch.Generator().manual_seed(0))
    distance = BOX.obj_from_grid(cache.centres(torch.arange(16**3))).norm(dim=-1)
    half_diagonal = 3**0.5 * 2.0 / 16
    assert float(cache.density[distance > 1 + half_diagonal].max()) == 0.0
    assert float(cache.density[distance < 1 - half_diagonal].min()) == 50.0
