"""A camera slides along a wall; a square card in front of it stands still on the image. Depths are known by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.artifacts import UNKNOWN
from pipelines.geometry import rigid
from pipelines.scene import evidence as rules
from pipelines.scene.evidence import AloneMaps, OcclusionEvidence, evidence_from_maps
from pipelines.scene.orders import order_tests
from pipelines.scene.zone import zone_at_share

W, H, T = 24, 16, 4
WALL, CARD = 8.0, 2.0
CARD_ROWS, CARD_COLUMNS = slice(4, 12), slice(8, 16)


def sliding_maps(step_px: float) -> AloneMaps:
    """The wall moves by step_px per frame in the image; the card, seen by the same camera, does not."""
    focal = 20.0
    depth = np.full((T, 2, H, W), np.inf, np.float32)
    depth[:, 0] = WALL
    depth[:, 1, CARD_ROWS, CARD_COLUMNS] = CARD
    column = np.zeros((T, H, W), np.uint8)
    column[:, CARD_ROWS, CARD_COLUMNS] = 1
    wall_shift = np.stack([np.arange(T) * step_px * WALL / focal, np.zeros(T), np.zeros(T)], axis=1)
    cam_from_obj = np.stack([rigid(np.tile(np.eye(3), (T, 1, 1)), wall_shift), np.tile(np.eye(4), (T, 1, 1))])
    intrinsics = np.array([[focal, 0, W / 2], [0, focal, H / 2], [0, 0, 1.0]])
    opacity = np.isfinite(depth).astype(np.float32)
    return AloneMaps(depth, opacity, column, np.arange(T) * 3, intrinsics, cam_from_obj, np.ones((2, T), bool))


@pytest.fixture
def no_border(monkeypatch) -> None:
    """Masks are exact here."""
    monkeypatch.setattr(rules, "BORDER_PX", 0)
    monkeypatch.setattr(rules, "HALO_PX", 0)


def rays_of(evidence: OcclusionEvidence, frame: int) -> np.ndarray:
    return evidence.frame == frame


def test_rays_are_those_with_two_hits_and_a_known_label(no_border):
    evidence = evidence_from_maps(sliding_maps(2.0), full_width=2 * W)
    assert len(evidence.column) == T * 8 * 8
    assert np.all(evidence.column == 1)
    assert np.all(evidence.depth == [WALL, CARD])
    assert set(evidence.frame) == {0, 3, 6, 9}
    assert evidence.xy_px.min(0).tolist() == [2 * 8.5, 2 * 4.5]
    assert evidence.xy_px.max(0).tolist() == [2 * 15.5, 2 * 11.5]


def test_hidden_wall_is_observed_where_another_frame_sees_it(no_border):
    # In frame 0 the wall behind card column c is at column c + 2u in frame u: beyond the card (>= 16) first for c + 6 >= 16.
    evidence = evidence_from_maps(sliding_maps(2.0))
    first = rays_of(evidence, 0)
    seen = evidence.observed[first, 0]
    assert np.array_equal(seen, evidence.xy_px[first, 0] >= 10.5)
    assert np.all(evidence.observed[:, 1])


def test_hidden_wall_is_a_guess_when_nothing_moves(no_border):
    evidence = evidence_from_maps(sliding_maps(0.0))
    assert not evidence.observed[:, 0].any() and evidence.credible.all()
    tests = order_tests(evidence)
    assert len(tests.bound) == T * 64 and tests.guessed.all()
    zone = zone_at_share(tests, np.array([[0.0, 0.0], [-3.0, 3.0]]), 0.0)
    bounds = zone.explain(1, 0)
    assert (
        bounds[0].guessed and not bounds[0].assumed and bounds[0].limit == np.log(np.float32(WALL)) - np.log(np.float32(CARD))
    )
    assert "never seen there" in bounds[0].describe(["the wall", "the card"])


def test_hidden_wall_at_another_depth_is_not_observed(no_border):
    maps = sliding_maps(6.0)
    guessed = maps.depth.copy()
    guessed[:, 0, CARD_ROWS, CARD_COLUMNS] *= 1.1
    evidence = evidence_from_maps(replace(maps, depth=guessed))
    assert not evidence.observed[:, 0].any()
    assert evidence_from_maps(maps).observed[:, 0].any()


def test_a_mask_that_is_too_small_does_not_put_the_wall_in_front(monkeypatch):
    maps = sliding_maps(2.0)
    tight = np.zeros_like(maps.column)
    tight[:, 5:11, 9:15] = 1
    monkeypatch.setattr(rules, "HALO_PX", 1)
    evidence = evidence_from_maps(replace(maps, column=tight))
    assert len(evidence.column) == T * 6 * 6 and np.all(evidence.column == 1)
    monkeypatch.setattr(rules, "BORDER_PX", 0)
    monkeypatch.setattr(rules, "HALO_PX", 0)
    careless = evidence_from_maps(replace(maps, column=tight))
    assert np.sum(careless.column == 0) == T * (64 - 36)


def test_a_wall_that_hides_a_card_keeps_its_rays(monkeypatch):
    # The card goes on far behind what hides it: only its own outline is in doubt.
    maps = sliding_maps(2.0)
    hidden = maps.column.copy()
    hidden[:, :, 12:] = 0
    for px in (1, 2):
        monkeypatch.setattr(rules, "HALO_PX", px)
        evidence = evidence_from_maps(replace(maps, column=hidden))
        assert np.sum(evidence.column == 1) == T * 8 * 4
        # The hiding half: all but the few pixels at the card's upper and lower outline next to where it is seen.
        assert np.sum(evidence.column == 0) == T * (8 * 4 - 2 * px * px)


def test_a_field_that_is_fatter_than_its_mask_is_not_hidden_by_what_is_behind_it(monkeypatch):
    """Two pixels of halo all around the card, where the masks show the wall."""
    maps = sliding_maps(2.0)
    thin = np.zeros_like(maps.column)
    thin[:, 6:10, 10:14] = 1
    halo = replace(maps, column=thin)
    assert (evidence_from_maps(halo).column == 1).all()
    monkeypatch.setattr(rules, "HALO_PX", 0)
    assert (evidence_from_maps(halo).column == 0).any()


def test_unknown_unregistered_and_transparent_rays_are_left_out(no_border):
    maps = sliding_maps(2.0)
    unknown = maps.column.copy()
    unknown[0] = UNKNOWN
    assert len(evidence_from_maps(replace(maps, column=unknown)).column) == (T - 1) * 64
    registered = maps.registered.copy()
    registered[1, 2] = False
    assert 6 not in evidence_from_maps(replace(maps, registered=registered)).frame
    opacity = maps.opacity.copy()
    opacity[1, 1] = 0.4
    assert 3 not in evidence_from_maps(replace(maps, opacity=opacity)).frame


def test_a_depth_beside_an_edge_is_unreliable(no_border, monkeypatch):
    maps = sliding_maps(2.0)
    depth = maps.depth.copy()
    depth[:, 0, :, 12:] = 2 * WALL
    stepped = replace(maps, depth=depth)
    evidence = evidence_from_maps(stepped)
    assert set(np.unique(evidence.xy_px[:, 0])) == {8.5, 9.5, 14.5, 15.5}
    monkeypatch.setattr(rules, "BACKGROUND_EDGE_PX", 1)
    evidence = evidence_from_maps(stepped)
    assert set(np.unique(evidence.xy_px[:, 0])) == {8.5, 9.5, 10.5, 13.5, 14.5, 15.5}


def test_no_evidence_at_all(tmp_path):
    maps = sliding_maps(1.0)
    evidence = evidence_from_maps(replace(maps, registered=np.zeros((2, T), bool)))
    assert evidence.depth.shape == (0, 2)
    evidence.save(tmp_path / "evidence.npz")
    assert OcclusionEvidence.load(tmp_path / "evidence.npz").observed.shape == (0, 2)


def test_stored_evidence_is_the_same(tmp_path):
    evidence = evidence_from_maps(sliding_maps(2.0))
    evidence.save(tmp_path / "evidence.npz")
    loaded = OcclusionEvidence.load(tmp_path / "evidence.npz")
    for name in ("depth", "opacity", "column", "frame", "xy_px", "observed", "credible"):
        assert np.array_equal(getattr(loaded, name), getattr(evidence, name))


def test_what_the_wall_hides_almost_always_is_no_part_of_the_card(no_border, monkeypatch):
    maps = sliding_maps(2.0)
    depth, opacity, column = maps.depth.copy(), maps.opacity.copy(), maps.column.copy()
    # The card's field is three columns too wide; one mask of four agrees.
    wider = slice(16, 19)
    depth[:, 1, CARD_ROWS, wider], opacity[:, 1, CARD_ROWS, wider] = CARD, 1.0
    column[0, CARD_ROWS, wider] = 1
    fat = replace(maps, depth=depth, opacity=opacity, column=column)

    def credible(share: float) -> np.ndarray:
        monkeypatch.setattr(rules, "MIN_SEEN_SHARE", share)
        evidence = evidence_from_maps(fat)
        outside = (evidence.column == 0) & (evidence.xy_px[:, 0] > 17) & (evidence.xy_px[:, 0] < 19)
        assert outside.any()
        assert not order_tests(replace(evidence, credible=np.zeros_like(evidence.credible))).n_rays
        return evidence.credible[outside, 1]

    assert credible(0.0).all()
    assert not credible(0.5).any()
