"""The export stage: which files are written, what is in them, and how sizes, samples and errors are treated."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts import ObjectModel, Sfm, SfmStatus
from pipelines.errors import ReconstructionError, UsageError
from pipelines.export import ExportConfig, _told_apart, export, file_name
from pipelines.formats.gltf import read_glb
from pipelines.formats.metric import KnownSize
from pipelines.formats.nerfstudio import camera_of
from pipelines.geometry import invert, pixel_centres, project, ray_directions, transform
from pipelines.meshing.surfaces import MeshConfig
from pipelines.stage import ItemCache, StageContext

MESHING = MeshConfig(
    object_cells=40, background_cells=32, max_faces=3000, background_max_faces=5000, view_width_px=128, mask_margin_px=0
)


def known_object(toy_scene, label: int, column: int) -> ObjectModel:
    """SfM of one object as if it had gone perfectly: 30 points seen in every frame."""
    points = np.random.default_rng(label).uniform(-0.3, 0.3, (30, 3)) + ([0, 0, 2.0] if label == 0 else [0, 0, 0])
    n_frames = toy_scene.n_frames
    cam_from_obj = toy_scene.cam_from_obj[column]
    xy_px = project(toy_scene.intrinsics, transform(cam_from_obj, np.tile(points, (n_frames, 1, 1))))
    return ObjectModel(
        object_id=label,
        status=SfmStatus.OK,
        reason="",
        registered=toy_scene.registered[column],
        cam_from_obj=cam_from_obj,
        points=points,
        point_error_px=np.zeros(30),
        point_rgb=np.full((30, 3), 100, np.uint8),
        obs_point=np.tile(np.arange(30), n_frames),
        obs_frame=np.repeat(np.arange(n_frames), 30),
        obs_xy_px=xy_px.reshape(-1, 2),
    )


@pytest.fixture(scope="module")
def toy_sfm(toy_scene) -> Sfm:
    lost = ObjectModel.failed(2, SfmStatus.NO_TRACKS, "too few tracks", toy_scene.n_frames)
    models = (known_object(toy_scene, 0, 0), known_object(toy_scene, 1, 1), lost, known_object(toy_scene, 3, 2))
    return Sfm(toy_scene.intrinsics, toy_scene.width, toy_scene.height, models)


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> ItemCache:
    return ItemCache(tmp_path_factory.mktemp("items"))


@pytest.fixture
def exported(toy_scene, toy_video, toy_labels, toy_samples, toy_sfm, items, tmp_path):
    """Runs an export; returns its folder and what it says it wrote."""

    def run(samples=toy_samples, sfm=toy_sfm, **options):
        config = ExportConfig(meshing=MESHING, **options)
        written = export(
            config,
            video=toy_video,
            labels=toy_labels,
            sfm=sfm,
            scene=toy_scene,
            samples=samples,
            context=StageContext(tmp_path, items),
        )
        assert all(path.exists() for path in written)
        return tmp_path, written

    return run


@pytest.mark.parametrize("mesh_format", ["ply", "obj", "glb"])
def test_one_mesh_per_object_with_colours_and_normals(exported, mesh_format):
    import trimesh

    folder, written = exported(mesh=True, mesh_format=mesh_format)
    names = [f"{name}.{mesh_format}" for name in ("00_background", "01_ball", "03_box")]
    assert [path.relative_to(folder).as_posix() for path in written] == [f"meshes/{name}" for name in names]
    ball = trimesh.load(written[1], force="mesh", process=False)
    assert len(ball.faces) > 500
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 0.5, atol=0.05)
    if mesh_format != "glb":  # trimesh drops vertex colours beside a material; the GLB's own test looks at them
        assert np.ptp(np.asarray(ball.visual.vertex_colors)[:, :3].astype(float), axis=0).max() > 50
    assert np.mean(np.sum(ball.vertex_normals * ball.vertices, axis=1) > 0.4) > 0.9


def test_glb_per_chosen_sample_says_which_scene_it_is(exported, toy_samples):
    _, written = exported(glb=True, sample="0,3")
    assert [path.name for path in written] == ["sample_0000.glb", "sample_0003.glb"]
    extras = read_glb(written[1])[0]["asset"]["extras"]
    assert extras["sample"] == 3
    assert extras["scales"] == pytest.approx({"background": 1.0, "ball": np.exp(-0.1), "box": np.exp(-0.1)})


def test_nothing_chosen_means_meshes_and_the_best_sample_as_glb(exported):
    _, written = exported()
    assert [path.name for path in written] == ["00_background.ply", "01_ball.ply", "03_box.ply", "sample_0003.glb"]


def test_a_known_height_fixes_the_unit_of_the_whole_scene(exported):
    """The ball has diameter 1 in its own unit; under scales 0.5 it is 0.5 world units high."""
    _, (path,) = exported(glb=True, sample="scales:0.5,1.2", metric="object 1 height = 30 cm")
    document, _ = read_glb(path)
    assert document["asset"]["extras"]["metres_per_world_unit"] == pytest.approx(0.6, rel=0.08)
    scales = [node["scale"][0] for node in document["nodes"][:3]]
    assert scales[1] / scales[0] == pytest.approx(0.5)
    assert scales[0] == pytest.approx(0.6, rel=0.08)


def test_the_sizes_of_a_known_box():
    corners = np.array([[x, y, z] for x in (0, 2) for y in (0, 3) for z in (0, 1.0)])
    ids, names = (0, 1, 3), ("background", "ball", "my box")
    for text, expected in (
        ("my box length = 6 m", 6 / 3 / 2),
        ("object 3 width = 400 cm", 4 / 2 / 2),
        ("object 3 height=1ft", 0.3048 / 3 / 2),
    ):
        known = KnownSize.parse(text, ids, names)
        assert known.column == 2
        assert known.metres_per_unit(corners, 2.0, np.eye(3)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about 3 m", "is not understood"),
        ("object 1 height = 3 yards", "is not understood"),
        ("object 1 height = -3 m", "no positive length"),
        ("object 1 height = 1e m", "no positive length"),
        ("object 2 height = 3 m", "not in the scene.*object 1 .ball., object 3 .box."),
        ("object 0 height = 3 m", "not in the scene"),
        ("cup height = 3 m", "not in the scene"),
    ],
)
def test_metric_that_cannot_be_honoured(text, message):
    with pytest.raises(UsageError, match=message):
        KnownSize.parse(text, (0, 1, 3), ("background", "ball", "box"))


def test_a_known_size_puts_mesh_files_into_metres(exported):
    import trimesh

    _, written = exported(mesh=True, masks=True, sample="scales:0.5,1.2", metric="object 1 height = 30 cm")
    ball, box = (trimesh.load(path, process=False) for path in written[1:3])
    assert np.ptp(ball.vertices, axis=0).max() == pytest.approx(0.3, rel=0.1)
    assert np.ptp(box.vertices, axis=0) == pytest.approx(0.6 * 1.2 * np.array([0.8, 1.0, 0.6]), rel=0.15)


def test_transforms_json_gives_the_rays_of_the_filming_camera_again(exported, toy_scene):
    _, (path,) = exported(nerfstudio=True)
    document = json.loads(path.read_text())
    xy_px = pixel_centres(toy_scene.width, toy_scene.height)[::31, ::17].reshape(-1, 2)
    assert len(document["frames"]) == toy_scene.n_frames
    for t, frame in enumerate(document["frames"]):
        intrinsics, cam_from_world = camera_of(document, t)
        expected = toy_scene.cam_from_obj[0, t]
        assert np.allclose(cam_from_world, expected)
        directions = ray_directions(intrinsics, xy_px) @ invert(cam_from_world)[:3, :3].T
        assert np.allclose(directions, ray_directions(toy_scene.intrinsics, xy_px) @ invert(expected)[:3, :3].T)
        assert (path.parent / frame["file_path"]).is_file()
        # OpenGL: the camera looks along its own -z.
        assert np.allclose(np.array(frame["transform_matrix"])[:3, 2], -expected[2, :3])


def test_nerfstudio_starts_from_points_that_its_cameras_see_where_they_were_tracked(exported, toy_sfm):
    """As nerfstudio does: the points go through the same world as `transform_matrix`, the path is relative to the folder."""
    import trimesh

    _, (path,) = exported(nerfstudio=True)
    document = json.loads(path.read_text())
    assert document["ply_file_path"] == "sparse_pc.ply"
    cloud = trimesh.load(path.parent / document["ply_file_path"])
    assert np.asarray(cloud.colors)[0, :3].tolist() == [100, 100, 100]
    background = toy_sfm.objects[0]
    for t in (0, 5):
        intrinsics, cam_from_world = camera_of(document, t)
        found = project(intrinsics, transform(cam_from_world, np.asarray(cloud.vertices, float)))
        assert np.allclose(found, background.obs_xy_px[background.obs_frame == t], atol=0.01)


def test_colmap_reads_its_models_back_with_the_same_reprojection_error(exported, toy_sfm, toy_video):
    import pycolmap

    _, written = exported(colmap=True)
    assert [path.name for path in written] == ["00_background", "01_ball", "03_box"]
    for path, model in zip(written, (toy_sfm.objects[0], toy_sfm.objects[1], toy_sfm.objects[3]), strict=True):
        reconstruction = pycolmap.Reconstruction(str(path / "sparse" / "0"))
        assert reconstruction.num_reg_images() == toy_video.n_frames
        assert reconstruction.num_points3D() == 30
        assert reconstruction.compute_mean_reprojection_error() < 1e-6
        found = {image.name: image.cam_from_world().matrix() for image in reconstruction.images.values()}
        assert sorted(found) == sorted(image.name for image in (path / "images").iterdir())
        assert np.allclose(found["000005.png"], model.cam_from_obj[5, :3])


def test_a_colmap_folder_is_a_data_set_of_one_object(exported, toy_sfm, toy_video, toy_labels):
    """Its registered frames, as they were filmed, and a mask for each; frames that objects share lie on the disk once."""
    registered = toy_sfm.objects[1].registered.copy()
    registered[2] = False
    ball = dataclasses.replace(toy_sfm.objects[1], registered=registered)
    seen_in = toy_sfm.objects[1].obs_frame != 2
    ball = dataclasses.replace(ball, **{name: getattr(ball, name)[seen_in] for name in ("obs_point", "obs_frame", "obs_xy_px")})
    _, (background, folder, _) = exported(
        sfm=dataclasses.replace(toy_sfm, objects=(toy_sfm.objects[0], ball, *toy_sfm.objects[2:])), colmap=True
    )
    names = [f"{t:06d}.png" for t in range(8) if t != 2]
    assert sorted(path.name for path in (folder / "images").iterdir()) == names
    assert sorted(path.name for path in (folder / "masks").iterdir()) == [f"{name}.png" for name in names]
    assert (folder / "images" / names[4]).read_bytes() == toy_video.path(5).read_bytes()
    mask = np.asarray(Image.open(folder / "masks" / f"{names[4]}.png"))
    assert np.array_equal(mask, np.where(toy_labels.maps[5] == 1, 255, 0))
    assert np.array_equal(np.asarray(Image.open(background / "masks" / f"{names[4]}.png")) == 255, toy_labels.maps[5] == 0)
    assert (folder / "images" / names[4]).samefile(background / "images" / names[4])
    assert not (folder / "images" / names[4]).samefile(toy_video.path(5))


def test_on_a_disk_without_links_images_are_copied(exported, monkeypatch):
    def refuse(self, target):
        raise PermissionError("links are not allowed here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    _, (background, ball, _) = exported(colmap=True)
    images = [folder / "images" / "000003.png" for folder in (background, ball)]
    assert images[0].read_bytes() == images[1].read_bytes() and not images[0].samefile(images[1])


def test_depth_images_hold_the_filmed_depth(exported, toy_scene, toy_samples):
    import cv2

    folder, _ = exported(depth=True, sample="0")
    described = json.loads((folder / "depth/sample_0000/depth.json").read_text())
    expected = toy_scene.render(t=2, scale=toy_samples.scale[0]).depth
    png = cv2.imread(str(folder / "depth/sample_0000/000002.png"), cv2.IMREAD_UNCHANGED)
    assert png.dtype == np.uint16
    assert np.allclose(png * described["length_per_step"], expected, atol=2 * described["length_per_step"])
    assert np.array_equal(np.load(folder / "depth/sample_0000/000002.npy"), expected)


def test_points_and_masks(exported, toy_labels):
    import trimesh

    from pipelines.artifacts import Labels

    folder, _ = exported(points=True, masks=True)
    assert sorted(path.name for path in (folder / "points").iterdir()) == ["00_background.ply", "01_ball.ply", "03_box.ply"]
    cloud = trimesh.load(folder / "points" / "01_ball.ply")
    assert np.allclose(cloud.vertices, np.random.default_rng(1).uniform(-0.3, 0.3, (30, 3)), atol=1e-6)
    assert np.array_equal(Labels.load(folder / "masks").maps, toy_labels.maps)


def test_no_samples_is_an_outcome_not_a_crash(exported, toy_samples):
    import dataclasses

    empty = dataclasses.replace(toy_samples, log_scale=np.zeros((0, 3)), score=np.zeros(0))
    with pytest.raises(ReconstructionError, match="no sampled scenes"):
        exported(samples=empty, glb=True)
    _, written = exported(samples=empty, mesh=True)
    assert len(written) == 3


def test_names_that_two_objects_have_are_told_apart(exported, toy_scene):
    names = ("background", "car", "car")
    scene = dataclasses.replace(toy_scene, names=names)
    assert _told_apart(scene) == ["background", *(f"{k:02d}_car" for k in scene.object_ids[1:])]


def test_long_names_are_cut():
    name = file_name(3, "Ж" * 150)
    assert name.startswith("03_ЖЖ") and len(name.encode()) <= 120
    assert file_name(3, "Ж" * 150) != file_name(3, "Ж" * 149)


def test_usd_variants_place_objects_as_the_glb_does(exported, toy_scene, toy_samples):
    Usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed")
    from pxr import UsdGeom

    _, (path,) = exported(usd=True, sample="diverse:2")
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert (stage.GetTimeCodesPerSecond(), stage.GetEndTimeCode()) == (10.0, 7.0)
    variants = stage.GetDefaultPrim().GetVariantSets().GetVariantSet("sample")
    assert variants.GetVariantNames() == ["sample_0000", "sample_0001"]
    labels = toy_scene.object_ids
    for index, name in enumerate(variants.GetVariantNames()):
        variants.SetVariantSelection(name)
        scale = toy_samples.scale[index]
        for t in (0, 5):
            camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/filmed_camera")).GetCamera(t)
            view = np.array(camera.frustum.ComputeViewMatrix()) @ np.array(camera.frustum.ComputeProjectionMatrix())
            for column, prim in ((1, f"object_{labels[1]:02d}_ball"), (2, f"object_{labels[2]:02d}_box")):
                node = UsdGeom.Xformable(stage.GetPrimAtPath(f"/scene/{prim}")).ComputeLocalToWorldTransform(t)
                assert np.linalg.norm(np.array(node)[0, :3]) == pytest.approx(scale[column])
                points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath(f"/scene/{prim}/mesh")).GetPointsAttr().Get())[::50]
                clip = np.concatenate([points, np.ones((len(points), 1))], 1) @ np.array(node) @ view
                found = (clip[:, :2] / clip[:, 3:] * [1, -1] + 1) / 2 * [toy_scene.width, toy_scene.height]
                in_camera = transform(toy_scene.cam_from_obj[column, t], points.astype(float))
                assert np.allclose(found, project(toy_scene.intrinsics, in_camera), atol=0.01)


@pytest.mark.parametrize(("unlit", "shown"), [(True, "emissiveColor"), (False, "diffuseColor")])
def test_usd_has_a_50_mm_lens_and_shows_the_colours_lit_or_unlit(exported, unlit, shown):
    """Lens and apertures are in tenths of a scene unit, which is a metre."""
    Usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed")
    from pxr import UsdGeom, UsdShade

    _, (path,) = exported(usd=True, unlit=unlit)
    stage = Usd.Stage.Open(str(path))
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/filmed_camera"))
    assert camera.GetFocalLengthAttr().Get() == pytest.approx(0.5)
    assert camera.GetHorizontalApertureAttr().Get() == pytest.approx(0.5 * 128 / 140)
    mesh = stage.GetPrimAtPath("/scene/object_01_ball/mesh")
    surface = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()[0].ComputeSurfaceSource()[0]
    assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
    reader = UsdShade.Shader(surface.GetInput(shown).GetConnectedSource()[0].GetPrim())
    assert (reader.GetIdAttr().Get(), reader.GetInput("varname").Get()) == ("UsdPrimvarReader_float3", "displayColor")
    assert UsdGeom.PrimvarsAPI(mesh).GetPrimvar("displayColor").HasValue()
    if unlit:
        assert tuple(surface.GetInput("diffuseColor").Get()) == (0, 0, 0)


def test_usd_knows_the_unit_and_the_depths_of_each_variant(exported, toy_scene):
    """A known size gives every sample a unit of its own: its camera's way, too. Nothing in view is clipped."""
    Usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed")
    from pxr import UsdGeom

    _, (path,) = exported(usd=True, sample="diverse:2", metric="object 1 height = 0.01 m")
    stage = Usd.Stage.Open(str(path))
    variants = stage.GetDefaultPrim().GetVariantSets().GetVariantSet("sample")
    for name in variants.GetVariantNames():
        variants.SetVariantSelection(name)
        camera = UsdGeom.Camera(stage.GetPrimAtPath("/scene/filmed_camera")).GetCamera(5)
        view = np.array(camera.frustum.ComputeViewMatrix()) @ np.array(camera.frustum.ComputeProjectionMatrix())
        for column, prim in ((0, "object_00_background"), (1, "object_01_ball")):
            node = UsdGeom.Xformable(stage.GetPrimAtPath(f"/scene/{prim}")).ComputeLocalToWorldTransform(5)
            points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath(f"/scene/{prim}/mesh")).GetPointsAttr().Get())[::50]
            clip = np.concatenate([points, np.ones((len(points), 1))], 1) @ np.array(node) @ view
            in_camera = transform(toy_scene.cam_from_obj[column, 5], points.astype(float))
            ahead = in_camera[:, 2] > 0.1
            assert ahead.any() and (np.abs(clip[ahead, 2]) < clip[ahead, 3]).all()
            found = (clip[ahead, :2] / clip[ahead, 3:] * [1, -1] + 1) / 2 * [toy_scene.width, toy_scene.height]
            assert np.allclose(found, project(toy_scene.intrinsics, in_camera[ahead]), atol=0.05)


def test_meshes_need_no_samples_and_cameras_no_scene(toy_scene, toy_video, toy_labels, toy_sfm, items, tmp_path):
    asked = {"video": toy_video, "labels": toy_labels, "sfm": toy_sfm, "samples": None}
    context = StageContext(tmp_path, items)
    assert export(ExportConfig(mesh=True, meshing=MESHING), scene=toy_scene, context=context, **asked)
    assert len(export(ExportConfig(colmap=True, points=True, masks=True), scene=None, context=context, **asked)) > 2
    with pytest.raises(ReconstructionError, match="no sampled scenes"):
        export(ExportConfig(glb=True, meshing=MESHING), scene=toy_scene, context=context, **asked)


def test_a_scene_of_background_only_and_one_with_an_object_never_placed(
    toy_scene, toy_video, toy_labels, toy_samples, toy_sfm, items, tmp_path
):
    import dataclasses

    alone = dataclasses.replace(
        toy_scene,
        cam_from_obj=toy_scene.cam_from_obj[:1],
        registered=toy_scene.registered[:1],
        object_ids=(0,),
        names=("background",),
        shapes=toy_scene.shapes[:1],
        boxes=toy_scene.boxes[:1],
    )
    registered = toy_scene.registered.copy()
    registered[1] = False
    absent = dataclasses.replace(toy_scene, registered=registered)
    only = dataclasses.replace(toy_samples, log_scale=np.zeros((1, 1)), score=np.ones(1), object_ids=np.zeros(1, int))
    for name, scene, samples, nodes in (("alone", alone, only, 2), ("absent", absent, toy_samples, 3)):
        out = tmp_path / name
        out.mkdir()
        (path,) = export(
            ExportConfig(glb=True, meshing=MESHING),
            video=toy_video,
            labels=toy_labels,
            sfm=toy_sfm,
            scene=scene,
            samples=samples,
            context=StageContext(out, items),
        )
        assert len(read_glb(path)[0]["nodes"]) == nodes


def test_a_name_that_looks_like_another_objects_number_is_asked_about():
    """After merges and with masks of others names keep old numbers: nothing may be measured by chance."""
    ids, names = (0, 1, 2, 3), ("background", "object 1", "object 3", "object 4")
    assert KnownSize.parse("object 4 height = 1 m", ids, names).column == 3
    assert KnownSize.parse("object 2 height = 1 m", ids, names).column == 2
    with pytest.raises(UsageError, match=r"several objects.*object 2 \(object 3\)"):
        KnownSize.parse("object 3 height = 1 m", ids, names)
    with pytest.raises(UsageError, match="several objects"):
        KnownSize.parse("car height = 1 m", ids, ("background", "car", "car", "van"))
