"""The stage `sfm` from made-up tracks: units, outcomes, focal length, cache, files."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipelines.artifacts import Labels, Sfm, SfmStatus, Tracks, Video
from pipelines.evaluation.poses import pose_error
from pipelines.geometry import focal_from_fov, rigid, transform
from pipelines.reconstruction import solve
from pipelines.reconstruction.calibrate import find_focal
from pipelines.reconstruction.judge import beside_background
from pipelines.sfm import SfmConfig, reconstruct
from pipelines.stage import ItemCache, StageContext

WIDTH, HEIGHT, FOCAL_PX, N_FRAMES = 320, 240, 300.0, 10


@dataclass(frozen=True)
class Case:
    """Exact motion of each object, and its tracks with a little noise."""

    folder: Path
    cam_from_obj: list[np.ndarray]
    tracks: Tracks

    @property
    def video(self) -> Video:
        return Video(self.folder / "frames", WIDTH, HEIGHT, N_FRAMES, 10.0, "made up")

    @property
    def labels(self) -> Labels:
        maps = np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8)
        return Labels(maps, tuple(f"object {k}" for k in range(len(self.cam_from_obj))))

    def run(self, name: str = "out", config: SfmConfig | None = None) -> Sfm:
        out = self.folder / name
        out.mkdir()
        context = StageContext(out, ItemCache(self.folder / "items"))
        config = config or SfmConfig(focal_px=FOCAL_PX)
        return reconstruct(config, video=self.video, labels=self.labels, tracks=self.tracks, context=context)


def camera_path(kind: str) -> np.ndarray:
    s = np.linspace(-1, 1, N_FRAMES)
    if kind == "static":
        return np.tile(np.eye(4), (N_FRAMES, 1, 1))
    turn = Rotation.from_rotvec(s[:, None] * [0.02, 0.15, 0.0]).as_matrix()
    path = np.stack([0.8 * s, 0.1 * s**2, 0.1 * s], -1) if kind == "moving" else np.zeros((N_FRAMES, 3))
    return rigid(turn, path)


def room(rng: np.random.Generator, n: int) -> np.ndarray:
    depth = rng.uniform(3, 9, n)
    return np.stack([rng.uniform(-0.45, 0.45, n) * depth, rng.uniform(-0.35, 0.35, n) * depth, depth], -1)


def box(rng: np.random.Generator, n: int, size: float = 0.4) -> np.ndarray:
    points = rng.uniform(-size, size, (n, 3))
    points[np.arange(n), rng.integers(0, 3, n)] = size
    return points


def mover_path() -> np.ndarray:
    s = np.linspace(-1, 1, N_FRAMES)
    turn = Rotation.from_rotvec(s[:, None] * [0.1, 0.5, 0.1]).as_matrix()
    return rigid(turn, np.stack([0.4 * s, 0.1 * s, 3 + 0.2 * s], -1))


def make_case(folder: Path, camera: str = "moving", mover_tracks: int = 60, noise_px: float = 0.03, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    motions, shapes = [camera_path(camera), mover_path()], [room(rng, 150), box(rng, mover_tracks)]
    columns: list[list[np.ndarray]] = [[], [], []]
    ids, first = [], 0
    for k, (motion, points) in enumerate(zip(motions, shapes, strict=True)):
        cam = transform(motion, np.broadcast_to(points, (N_FRAMES, *points.shape)))
        xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:] + [WIDTH / 2, HEIGHT / 2]
        xy_px += rng.normal(size=xy_px.shape) * noise_px
        track, frame = np.nonzero(np.ones((len(points), N_FRAMES)))
        columns[0].append(track + first)
        columns[1].append(frame)
        columns[2].append(xy_px[frame, track])
        ids += [k] * len(points)
        first += len(points)
    (folder / "frames").mkdir(parents=True)
    for t in range(N_FRAMES):
        cv2.imwrite(str(folder / "frames" / f"{t:06d}.png"), np.full((HEIGHT, WIDTH, 3), (10, 20, 30), np.uint8))
    tracks = Tracks(*(np.concatenate(column) for column in columns), np.array(ids, np.uint8))
    return Case(folder, motions, tracks)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def sfm(case) -> Sfm:
    return case.run()


def test_background_and_mover_are_reconstructed(case, sfm):
    assert sfm.focal_source == "given"
    assert sfm.intrinsics[0, 0] == FOCAL_PX
    for model, true in zip(sfm.objects, case.cam_from_obj, strict=True):
        assert model.status is SfmStatus.OK, model.reason
        assert model.registered.all()
        assert pose_error(model.cam_from_obj, true).rotation_deg < 0.5
        assert len(model.points) > 50
        np.testing.assert_array_equal(model.point_rgb[0], [30, 20, 10])


def test_units_put_the_median_depth_at_one(sfm):
    for model in sfm.objects:
        depth = transform(model.cam_from_obj, np.broadcast_to(model.points, (N_FRAMES, *model.points.shape)))[..., 2]
        assert np.median(depth) == pytest.approx(1.0, abs=0.01)


def test_points_reproject_on_their_observations(sfm):
    for model in sfm.objects:
        poses = model.cam_from_obj[model.obs_frame]
        cam = np.einsum("nij,nj->ni", poses[:, :3, :3], model.points[model.obs_point]) + poses[:, :3, 3]
        seen = cam @ sfm.intrinsics.T
        assert np.median(np.linalg.norm(seen[:, :2] / seen[:, 2:] - model.obs_xy_px, axis=-1)) < 0.1


def test_saved_result_loads_and_colmap_files_are_there(case, sfm):
    import pycolmap

    again = Sfm.load(case.folder / "out")
    np.testing.assert_array_equal(again.objects[1].cam_from_obj, sfm.objects[1].cam_from_obj)
    sparse = pycolmap.Reconstruction(str(case.folder / "out" / "object_01" / "sparse"))
    assert sparse.num_reg_images() == N_FRAMES
    assert {image.name for image in sparse.images.values()} == {f"{t:06d}.png" for t in range(N_FRAMES)}


def test_same_tracks_same_result(tmp_path, sfm):
    again = make_case(tmp_path).run()
    np.testing.assert_array_equal(again.objects[1].cam_from_obj, sfm.objects[1].cam_from_obj)


def test_a_change_in_one_object_recomputes_only_it(tmp_path, monkeypatch):
    case = make_case(tmp_path)
    solved: list[int] = []
    original = solve.solve_object

    def spy(config, object_id, *rest):
        solved.append(object_id)
        return original(config, object_id, *rest)

    monkeypatch.setattr(solve, "solve_object", spy)
    case.run("first")
    assert solved == [0, 1]
    case.run("second")
    assert solved == [0, 1]
    moved = case.tracks.xy_px.copy()
    moved[-1] += 0.5
    Case(tmp_path, case.cam_from_obj, Tracks(case.tracks.track, case.tracks.frame, moved, case.tracks.object_id)).run("third")
    assert solved == [0, 1, 1]


@pytest.mark.parametrize("camera", ["static", "turning"])
def test_no_parallax_assumes_a_far_background_and_keeps_the_mover(tmp_path, camera):
    case = make_case(tmp_path, camera)
    background, mover = case.run().objects
    assert background.status is SfmStatus.ASSUMED_DEPTH
    assert "assumed" in background.reason
    np.testing.assert_allclose(np.linalg.norm(background.points, axis=-1), 1.0)
    assert pose_error(background.cam_from_obj, case.cam_from_obj[0], distance=1.0).rotation_deg < 0.1
    assert mover.status is SfmStatus.OK


def test_too_few_tracks_are_a_typed_outcome(tmp_path):
    background, mover = make_case(tmp_path, mover_tracks=5).run().objects
    assert background.status is SfmStatus.OK
    assert mover.status is SfmStatus.NO_TRACKS
    assert "5 tracks" in mover.reason
    assert not mover.registered.any()


def test_tracks_without_a_common_motion_are_not_called_good(tmp_path):
    case = make_case(tmp_path)
    xy_px = case.tracks.xy_px.copy()
    mine = case.tracks.object_id[case.tracks.track] == 1
    xy_px[mine] += np.random.default_rng(0).normal(size=(int(mine.sum()), 2)) * 6
    noisy = Case(tmp_path, case.cam_from_obj, Tracks(case.tracks.track, case.tracks.frame, xy_px, case.tracks.object_id))
    mover = noisy.run().objects[1]
    assert mover.status in (SfmStatus.NOT_REGISTERED, SfmStatus.UNRELIABLE)
    assert mover.reason


def test_the_background_tells_the_focal_length(tmp_path):
    sfm = make_case(tmp_path, noise_px=0.02).run(config=SfmConfig())
    assert sfm.focal_source == "self-calibrated"
    assert 0 < Sfm.load(tmp_path / "out").focal_uncertainty == sfm.focal_uncertainty < 0.05
    assert sfm.intrinsics[0, 0] == pytest.approx(FOCAL_PX, rel=0.03)


def test_under_a_static_camera_a_mover_tells_the_focal_length(tmp_path):
    sfm = make_case(tmp_path, "static", noise_px=0.02).run(config=SfmConfig())
    assert sfm.focal_source == "self-calibrated"
    assert sfm.intrinsics[0, 0] == pytest.approx(FOCAL_PX, rel=0.06)


def test_a_static_camera_alone_tells_no_focal_length(tmp_path):
    case = make_case(tmp_path, "static")
    alone = Case(tmp_path, case.cam_from_obj[:1], case.tracks.of_object(0))
    sfm = alone.run(config=SfmConfig())
    assert sfm.focal_source == "assumed"
    assert sfm.intrinsics[0, 0] == pytest.approx(focal_from_fov(60.0, WIDTH))


def test_a_known_focal_length_is_that_of_the_footage(tmp_path):
    """People know it at the size they filmed in, and not what the program made of it."""
    case = make_case(tmp_path)
    reduced = replace(case.video, filmed_width=4 * WIDTH)
    focal = find_focal(SfmConfig(focal_px=4 * FOCAL_PX), case.tracks, reduced, np.array([WIDTH, HEIGHT]) / 2)
    assert focal.focal_px == pytest.approx(FOCAL_PX)


def test_a_lens_is_assumed_whichever_way_the_camera_is_held(tmp_path):
    case = make_case(tmp_path, camera="static")
    wide = [
        find_focal(SfmConfig(), case.tracks, replace(case.video, width=w, height=h), np.array([w, h]) / 2).focal_px
        for w, h in ((WIDTH, HEIGHT), (HEIGHT, WIDTH))
    ]
    assert wide[0] == wide[1] == pytest.approx(focal_from_fov(60.0, max(WIDTH, HEIGHT)))


def test_two_focal_lengths_are_refused():
    with pytest.raises(Exception, match="give only one of them"):
        SfmConfig(focal_px=300, fov_deg=60)


@pytest.mark.parametrize(("error_px", "status"), [(0.11, SfmStatus.OK), (0.3, SfmStatus.DOUBTFUL)])
def test_tracks_that_fit_one_rigid_motion_much_worse_than_the_background_are_doubtful(sfm, error_px, status):
    background, mover = sfm.objects[:2]
    background = replace(background, quality={"median_error_px": 0.1})
    mover = replace(mover, status=SfmStatus.OK, quality={"median_error_px": error_px})
    judged = beside_background(mover, background)
    assert judged.status is status
    assert bool(judged.reason) is (status is not SfmStatus.OK)


@pytest.mark.parametrize(("error_px", "status"), [(0.3, SfmStatus.OK), (0.5, SfmStatus.DOUBTFUL)])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_still_background_is_no_measure_of_errors(sfm, error_px, status, is_told):
    """Codecs repeat it exactly. It is told by its status, or by tracks that hardly move."""
    background, mover = sfm.objects[:2]
    still = {"status": SfmStatus.ASSUMED_DEPTH} if is_told else {"obs_xy_px": background.obs_xy_px * 1e-3}
    background = replace(background, quality={"median_error_px": 0.002}, **still)
    judged = beside_background(replace(mover, status=SfmStatus.OK, quality={"median_error_px": error_px}), background)
    assert judged.status is status
    assert ("is usual before a still background" in judged.reason) is (status is not SfmStatus.OK)


def in_pieces(case: Case) -> Case:
    """The same mover, of which a third of the tracks were taken for another object."""
    ids = case.tracks.object_id.copy()
    ids[np.flatnonzero(ids == 1)[::3]] = 2
    return replace(case, cam_from_obj=[*case.cam_from_obj, case.cam_from_obj[1]], tracks=replace(case.tracks, object_id=ids))


def test_pieces_that_move_as_one_are_one_object(tmp_path):
    case = in_pieces(make_case(tmp_path, mover_tracks=120))
    sfm = case.run()
    assert [model.status for model in sfm.objects] == [SfmStatus.OK, SfmStatus.OK, SfmStatus.PIECE]
    assert sfm.bodies == {2: 1}
    # Both parts' tracks are in it.
    assert len(sfm.objects[1].points) > 100
    assert pose_error(sfm.objects[1].cam_from_obj, case.cam_from_obj[1]).rotation_deg < 0.5


def test_objects_that_were_given_stay_apart(tmp_path):
    sfm = in_pieces(make_case(tmp_path, mover_tracks=120)).run(config=SfmConfig(focal_px=FOCAL_PX, correct_masks=False))
    assert sfm.bodies == {}
    assert sfm.scene_ids == [0, 1, 2]


def with_strangers(case: Case, share: float = 1 / 3) -> tuple[Case, Labels]:
    """A second mover; a share of its tracks (those most to the right at first) and pixels was taken for the first's."""
    rng = np.random.default_rng(1)
    path = mover_path()
    path[:, 0, 3] -= 0.9
    path[:, :3, :3] = path[:, :3, :3].transpose(0, 2, 1)
    n = 150
    cam = transform(path, np.broadcast_to(box(rng, n, 0.35), (N_FRAMES, n, 3)))
    xy_px = FOCAL_PX * cam[..., :2] / cam[..., 2:] + [WIDTH / 2, HEIGHT / 2] + rng.normal(size=(N_FRAMES, n, 2)) * 0.03
    known, first = case.tracks, len(case.tracks.object_id)
    track, frame = np.nonzero(np.ones((n, N_FRAMES)))
    ids = np.where(xy_px[0, :, 0] >= np.quantile(xy_px[0, :, 0], 1 - share), 1, 2).astype(np.uint8)
    tracks = Tracks(
        np.concatenate([known.track, track + first]),
        np.concatenate([known.frame, frame]),
        np.concatenate([known.xy_px, xy_px[frame, track]]),
        np.concatenate([known.object_id, ids]),
    )
    maps = np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8)
    for t in range(N_FRAMES):
        for k in (2, 1):
            x, y = tracks.xy_px[(tracks.object_id[tracks.track] == k) & (tracks.frame == t)].astype(int).T
            maps[t, y.clip(0, HEIGHT - 1), x.clip(0, WIDTH - 1)] = k
    names = ("background", "one", "two")[: int(maps.max()) + 1]
    return replace(case, cam_from_obj=[*case.cam_from_obj, path], tracks=tracks), Labels(maps, names)


def without_tracks(tracks: Tracks, gone: np.ndarray) -> Tracks:
    """The tracks, some of them without sightings."""
    kept = ~np.isin(tracks.track, gone)
    return replace(tracks, track=tracks.track[kept], frame=tracks.frame[kept], xy_px=tracks.xy_px[kept])


def test_a_part_that_moves_as_another_object_does_is_given_to_it(tmp_path):
    case, labels = with_strangers(make_case(tmp_path, mover_tracks=150))
    config = SfmConfig(focal_px=FOCAL_PX)
    for name, wanted in (("found", config), ("given", config.model_copy(update={"correct_masks": False}))):
        (tmp_path / name).mkdir()
        context = StageContext(tmp_path / name, ItemCache(tmp_path / "items"))
        sfm = reconstruct(wanted, video=case.video, labels=labels, tracks=case.tracks, context=context)
        assert [model.status for model in sfm.objects] == [SfmStatus.OK] * 3
        corrected = sfm.corrected(labels, tmp_path / name)
        if name == "given":
            np.testing.assert_array_equal(corrected.maps, labels.maps)
        else:
            # Of the 50 strange tracks' pixels most are the second object's now, with their points.
            assert len(sfm.objects[2].points) > 130
            assert len(sfm.objects[1].points) < 165
            moved = (labels.maps == 1) & (corrected.maps == 2)
            assert moved.sum() > 0.8 * 50 * N_FRAMES
            assert (corrected.maps == 1).sum() > 0.9 * 150 * N_FRAMES
        for model, true in zip(sfm.objects, case.cam_from_obj, strict=True):
            assert pose_error(model.cam_from_obj, true).rotation_deg < 0.5


@pytest.mark.parametrize(
    ("host_tracks", "said", "status"),
    [
        (150, "one was two objects", SfmStatus.OK),
        (600, "150 tracks of one have a motion of their own", SfmStatus.DOUBTFUL),
    ],
)
def test_a_mask_that_holds_two_movers_becomes_two(tmp_path, notes, host_tracks, said, status):
    """In doubt, as neither half rules, or in none, as the first one does and the other's tracks are strangers."""
    case, labels = with_strangers(make_case(tmp_path, mover_tracks=host_tracks), share=1.0)
    assert labels.n_objects == 2
    (tmp_path / "out").mkdir()
    context = StageContext(tmp_path / "out", ItemCache(tmp_path / "items"), notes)
    config = SfmConfig(focal_px=FOCAL_PX)
    sfm = reconstruct(config, video=case.video, labels=labels, tracks=case.tracks, context=context)
    assert [model.status for model in sfm.objects] == [SfmStatus.OK, SfmStatus.OK, status]
    assert sum(said in note for note in notes.said) == 1
    assert [model.object_id for model in Sfm.load(tmp_path / "out").objects] == [0, 1, 2]
    corrected = sfm.corrected(labels, tmp_path / "out")
    assert corrected.names == ("background", "one", "object 2")
    errors = np.array(
        [[pose_error(m.cam_from_obj, true).rotation_deg for true in case.cam_from_obj[1:]] for m in sfm.objects[1:]]
    )
    first = int(errors[0].argmin())
    assert errors[0, first] < 0.5 and errors[1, 1 - first] < 0.5
    shares = [(corrected.maps == k).sum() / (labels.maps == 1).sum() for k in (1, 2)]
    assert shares[first] > 0.9 * host_tracks / (host_tracks + 150) and shares[1 - first] > 0.8 * 150 / (host_tracks + 150)


@pytest.mark.parametrize("camera", ["moving", "turning"])
@pytest.mark.parametrize("is_rigid", [True, False])
def test_a_mover_in_the_background_is_found_or_told(tmp_path, notes, camera, is_rigid):
    """Sixty of the background's tracks move otherwise: as one body, or every one its own way."""
    case, _ = with_strangers(make_case(tmp_path, camera, mover_tracks=60), share=0.0)
    strange = np.flatnonzero(case.tracks.object_id == 2)
    tracks = without_tracks(case.tracks, strange[60:])
    if not is_rigid:
        waves = np.random.default_rng(2).normal(size=(len(case.tracks.object_id), 2, 3)) * 3
        time = np.stack([np.sin((f + 1) * tracks.frame / N_FRAMES * np.pi) for f in range(3)])
        swayed = tracks.xy_px + np.einsum("ncf,fn->nc", waves[tracks.track], time)
        tracks = replace(tracks, xy_px=np.where(np.isin(tracks.track, strange)[:, None], swayed, tracks.xy_px))
    tracks = replace(tracks, object_id=np.minimum(case.tracks.object_id, 1) * (case.tracks.object_id != 2).astype(np.uint8))
    (tmp_path / "out").mkdir()
    context = StageContext(tmp_path / "out", ItemCache(tmp_path / "items"), notes)
    labels = Labels(np.zeros((N_FRAMES, HEIGHT, WIDTH), np.uint8), ("background", "one"))
    sfm = reconstruct(SfmConfig(focal_px=FOCAL_PX), video=case.video, labels=labels, tracks=tracks, context=context)
    if is_rigid:
        assert [model.status for model in sfm.objects[1:]] == [SfmStatus.OK, SfmStatus.DOUBTFUL]
        assert sfm.corrected(labels, tmp_path / "out").names == ("background", "one", "object 2")
        assert pose_error(sfm.objects[2].cam_from_obj, case.cam_from_obj[2]).rotation_deg < 2
    else:
        assert len(sfm.objects) == 2
        assert any("a mover may be missing" in note for note in notes.said)


@pytest.mark.parametrize(("rival_evidence", "is_told"), [(60.0, True), (900.0, False)])
def test_a_waist_is_told_where_the_motion_is_not_certain(tmp_path, monkeypatch, rival_evidence, is_told):
    """The mover's first points are seen until frame t, its others from then on, but for a tenth."""
    from pipelines.reconstruction import solve

    case = make_case(tmp_path, mover_tracks=200)
    ids = np.flatnonzero(case.tracks.object_id == 1)
    track, frame, half = case.tracks.track, case.tracks.frame, N_FRAMES // 2
    gone = (np.isin(track, ids[:90]) & (frame >= half)) | (np.isin(track, ids[110:]) & (frame < half))
    tracks = replace(case.tracks, track=track[~gone], frame=frame[~gone], xy_px=case.tracks.xy_px[~gone])
    monkeypatch.setattr(solve, "compared", lambda candidates, options: (0, rival_evidence))
    model = replace(case, tracks=tracks).run(config=SfmConfig(focal_px=FOCAL_PX, correct_masks=False)).objects[1]
    assert pose_error(model.cam_from_obj, case.cam_from_obj[1]).rotation_deg < 1
    assert (model.status is SfmStatus.DOUBTFUL) is is_told
    assert ("two objects, one after the other" in model.reason) is is_told
    assert model.quality["waist_frame"] == half - 1


def test_two_movers_that_a_mask_holds_one_after_the_other_become_two(tmp_path, monkeypatch, notes):
    """A seventh of each one's tracks are seen in all frames but one; the others of the first end where the second's begin."""
    from pipelines.reconstruction import correction

    case, labels = with_strangers(make_case(tmp_path, mover_tracks=150), share=1.0)
    first, second = np.split(np.flatnonzero(case.tracks.object_id == 1), 2)
    track, frame, half = case.tracks.track, case.tracks.frame, N_FRAMES // 2
    gone = (np.isin(track, first[22:]) & (frame >= half)) | (np.isin(track, second[22:]) & (frame < half))
    gone |= (np.isin(track, first) & (frame == N_FRAMES - 1)) | (np.isin(track, second) & (frame == 0))
    tracks = replace(case.tracks, track=track[~gone], frame=frame[~gone], xy_px=case.tracks.xy_px[~gone])
    monkeypatch.setattr(correction, "halves", lambda sightings, width, seed: np.zeros(sightings.n_tracks, int))
    (tmp_path / "out").mkdir()
    context = StageContext(tmp_path / "out", ItemCache(tmp_path / "items"), notes)
    sfm = reconstruct(SfmConfig(focal_px=FOCAL_PX), video=case.video, labels=labels, tracks=tracks, context=context)
    assert sum("one was two objects" in note for note in notes.said) == 1
    errors = np.array(
        [[pose_error(m.cam_from_obj, true).rotation_deg for true in case.cam_from_obj[1:]] for m in sfm.objects[1:]]
    )
    assert errors.min(1).max() < 5 and sorted(errors.argmin(1)) == [0, 1]
