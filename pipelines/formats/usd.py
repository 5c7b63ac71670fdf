"""USD: one stage with all sampled scenes, one variant each (variant set "sample" on the root prim).

Axes and units come converted from `pipelines.formats.placement`: y up, camera looking along -z. Meshes and rotations are
common to all samples and written once; a variant holds the objects' scales and translations. Time codes are frame
numbers. The unit is the metre, also where no real length is known and lengths are arbitrary. Needs the extra `usd` (usd-core).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from pipelines.errors import MissingDependencyError
from pipelines.formats.placement import Placement
from pipelines.meshing.mesh import Mesh, linear_rgb

VARIANT_SET = "sample"
ROOT = "/scene"
MATERIAL = f"{ROOT}/materials/vertex_colours"
FOCAL_LENGTH = 0.5
"""50 mm, where a scene unit is a metre: USD has lens and apertures in tenths of a scene unit. Only their ratio counts."""


def _pxr() -> ModuleType:
    try:
        import pxr.Usd
        import pxr.UsdGeom
    except ImportError:
        raise MissingDependencyError("USD export needs the package usd-core: pip install 'osn-cli[usd]'") from None
    return pxr


def prim_name(text: str) -> str:
    """A valid USD identifier."""
    cleaned = re.sub(r"\W", "_", text, flags=re.ASCII)
    return cleaned if cleaned and not cleaned[0].isdigit() else f"_{cleaned}"


def write_usd(
    path: Path,
    *,
    meshes: Sequence[Mesh],
    names: Sequence[str],
    placements: dict[str, Placement],
    intrinsics: Float[np.ndarray, "3 3"],
    width: int,
    height: int,
    fps: float,
    clipping_range: tuple[float, float],
    unlit: bool = True,
) -> Path:
    """One stage. placements: variant name -> where everything is under that sample; the first is selected.

    clipping_range: near and far plane of the filming camera, in the units of the placements.
    unlit: show the vertex colours as they are, instead of lighting them once more.
    """
    pxr = _pxr()
    from pxr import Sdf, Usd, UsdGeom

    stage = Usd.Stage.CreateNew(str(path))
    first = next(iter(placements.values()))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(fps)
    stage.SetFramesPerSecond(fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(first.times_s) - 1)
    root = UsdGeom.Xform.Define(stage, Sdf.Path(ROOT)).GetPrim()
    stage.SetDefaultPrim(root)
    material = _write_material(pxr, stage, unlit=unlit)
    prims = {}
    for column, (mesh, name) in enumerate(zip(meshes, names, strict=True)):
        if len(mesh.faces) > 0:
            prims[column] = f"{ROOT}/{prim_name(f'object_{name}')}"
            _write_object(pxr, stage, prims[column], mesh, material, first, column)
    camera = _write_camera(pxr, stage, first, intrinsics, width, height)
    camera.CreateClippingRangeAttr(pxr.Gf.Vec2f(*clipping_range))
    variants = root.GetVariantSets().AddVariantSet(VARIANT_SET)
    for variant, placement in placements.items():
        variants.AddVariant(variant)
        variants.SetVariantSelection(variant)
        with variants.GetVariantEditContext():
            for column, prim in prims.items():
                _write_sample(pxr, stage, prim, placement, column)
            _write_camera_places(pxr, camera, placement)
    variants.SetVariantSelection(next(iter(placements)))
    stage.GetRootLayer().Save()
    return path


def _write_material(pxr: ModuleType, stage, *, unlit: bool) -> Any:
    """One for all meshes. Programs that light a scene ignore `displayColor` unless a material reads it."""
    from pxr import UsdShade

    types = pxr.Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, MATERIAL)
    reader = UsdShade.Shader.Define(stage, f"{MATERIAL}/colour")
    reader.CreateIdAttr("UsdPrimvarReader_float3")
    reader.CreateInput("varname", types.String).Set("displayColor")
    surface = UsdShade.Shader.Define(stage, f"{MATERIAL}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", types.Float).Set(1.0)
    if unlit:
        surface.CreateInput("diffuseColor", types.Color3f).Set(pxr.Gf.Vec3f(0, 0, 0))
        # With a specular colour, which is black by default, nothing is reflected, either.
        surface.CreateInput("useSpecularWorkflow", types.Int).Set(1)
    shown = surface.CreateInput("emissiveColor" if unlit else "diffuseColor", types.Color3f)
    shown.ConnectToSource(reader.CreateOutput("result", types.Float3))
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    return material


def _write_object(pxr: ModuleType, stage, prim: str, mesh: Mesh, material: Any, placement: Placement, column: int) -> None:
    """The node with its rotation and visibility over time, and the mesh below it."""
    from pxr import UsdShade

    Gf, UsdGeom, Vt = pxr.Gf, pxr.UsdGeom, pxr.Vt
    node = UsdGeom.Xform.Define(stage, prim)
    node.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble)
    _write_rotation(pxr, node.AddOrientOp(UsdGeom.XformOp.PrecisionDouble), placement.quaternion[column], static=column == 0)
    node.AddScaleOp(UsdGeom.XformOp.PrecisionDouble)
    if column > 0 and not placement.visible[column].all():
        visibility = node.CreateVisibilityAttr()
        for t, seen in enumerate(placement.visible[column]):
            visibility.Set(UsdGeom.Tokens.inherited if seen else UsdGeom.Tokens.invisible, t)
    shape = UsdGeom.Mesh.Define(stage, f"{prim}/mesh")
    shape.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(mesh.vertices.astype(np.float32)))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.astype(np.int32).ravel()))
    shape.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(mesh.normals.astype(np.float32)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreateDoubleSidedAttr(True)
    shape.CreateExtentAttr([Gf.Vec3f(*mesh.vertices.min(0).tolist()), Gf.Vec3f(*mesh.vertices.max(0).tolist())])
    colours = shape.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
    colours.Set(Vt.Vec3fArray.FromNumpy(linear_rgb(mesh.rgb).astype(np.float32)))
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def _write_rotation(pxr: ModuleType, op, quaternion: Float[np.ndarray, "T 4"], *, static: bool) -> None:
    for t, (x, y, z, w) in enumerate(quaternion[:1] if static else quaternion):
        op.Set(pxr.Gf.Quatd(w, x, y, z), *([] if static else [t]))


def _write_sample(pxr: ModuleType, stage, prim: str, placement: Placement, column: int) -> None:
    """Scale and translations of one object under one sample (inside the variant's edit context)."""
    Gf, UsdGeom = pxr.Gf, pxr.UsdGeom
    translate, _, scale = UsdGeom.Xformable(stage.GetPrimAtPath(prim)).GetOrderedXformOps()
    scale.Set(Gf.Vec3d(*[float(placement.scale[column])] * 3))
    if column == 0:
        translate.Set(Gf.Vec3d(*placement.translation[column, 0].tolist()))
        return
    for t, position in enumerate(placement.translation[column]):
        translate.Set(Gf.Vec3d(*position.tolist()), t)


def _write_camera(
    pxr: ModuleType, stage, placement: Placement, intrinsics: Float[np.ndarray, "3 3"], width: int, height: int
) -> Any:
    """The filming camera and its turns. Apertures and offsets have the unit of the focal length."""
    UsdGeom = pxr.UsdGeom
    camera = UsdGeom.Camera.Define(stage, f"{ROOT}/filmed_camera")
    (fx, _, cx), (_, fy, cy) = intrinsics[0], intrinsics[1]
    camera.CreateFocalLengthAttr(FOCAL_LENGTH)
    camera.CreateHorizontalApertureAttr(FOCAL_LENGTH * width / fx)
    camera.CreateVerticalApertureAttr(FOCAL_LENGTH * height / fy)
    camera.CreateHorizontalApertureOffsetAttr(FOCAL_LENGTH * (width / 2 - cx) / fx)
    camera.CreateVerticalApertureOffsetAttr(FOCAL_LENGTH * (cy - height / 2) / fy)
    camera.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble)
    _write_rotation(pxr, camera.AddOrientOp(UsdGeom.XformOp.PrecisionDouble), placement.camera_quaternion, static=False)
    return camera


def _write_camera_places(pxr: ModuleType, camera: Any, placement: Placement) -> None:
    """Where the camera is under one sample: a known length makes the unit of each its own (inside its edit context)."""
    translate = camera.GetOrderedXformOps()[0]
    for t, position in enumerate(placement.camera_translation):
        translate.Set(pxr.Gf.Vec3d(*position.tolist()), t)
