"""The viewer: a scene tree and a panel in the browser, driven by viser (Yi et al. 2025, arXiv 2507.22885).

One person's viewer: everybody who opens the page sees, and moves, the same scene.
"""

import contextlib
import html
import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import viser
from jaxtyping import Float, UInt8

from pipelines.artifacts import Samples, Video
from pipelines.formats.gltf import mesh_glb
from pipelines.meshing.mesh import Mesh
from pipelines.scenery import SceneLike
from pipelines.viewer.scales import ScaleState, append_own_sample, as_choice, starting_state
from pipelines.viewer.stage_set import StageSet

STAR = "\\*"
MESHES, POINTS, BOTH = "meshes", "points", "both"
MESH_UPRIGHT_WXYZ = (0.0, 1.0, 0.0, 0.0)
"""Undoes the half turn about x that a mesh file carries for other programs."""
FRUSTUM_SHARE, POINT_SHARE = 0.1, 0.006
SLIDER_STEPS = 400
IMAGE_WIDTH_PX = 480


@dataclass(frozen=True)
class Contents:
    """What is shown. Points are those of the reconstruction, per column, in each object's own unit."""

    scene: SceneLike
    samples: Samples
    video: Video
    points: Sequence[tuple[Float[np.ndarray, "_ 3"], UInt8[np.ndarray, "_ 3"]]]
    zone: Any
    network: Any
    log_scale_range: Float[np.ndarray, "K 2"]
    own_samples: Path
    """File that saved combinations are added to."""


class Viewer:
    """The page of one scene."""

    def __init__(self, contents: Contents, *, host: str, port: int) -> None:
        self.contents = contents
        self.scene = contents.scene
        self.set = StageSet(contents.scene)
        self.state = starting_state(contents.samples.log_scale, contents.log_scale_range, contents.zone, contents.network)
        self.frame = 0
        self.stopped = threading.Event()
        self.lock = threading.RLock()
        with _quiet():
            self.server = viser.ViserServer(host=host, port=port, label="osn", verbose=False)
        self.nodes: list[Any] = []
        self.meshes: list[Any] = []
        self.clouds: list[Any] = []
        self._build_scene()
        self._build_panel()
        self.refresh()

    @property
    def url(self) -> str:
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    # The scene ------------------------------------------------------------------------------------------------------

    def _build_scene(self) -> None:
        scene = self.server.scene
        scene.set_up_direction("+y")
        scene.configure_environment_map(hdri=None)
        reach = self.set.reach(self.frame, self.state.scale)
        for column, (points, rgb) in enumerate(self.contents.points):
            self.nodes.append(scene.add_frame(f"/objects/{column}", show_axes=False))
            size = POINT_SHARE * reach / float(self.state.scale[column])
            cloud = scene.add_point_cloud(
                f"/objects/{column}/points", points.astype(np.float32), rgb, point_size=size, precision="float32"
            )
            self.clouds.append(cloud)
        fov = 2 * float(np.arctan2(self.scene.height / 2, self.scene.intrinsics[1, 1]))
        aspect = self.scene.width / self.scene.height
        size = FRUSTUM_SHARE * reach
        self.frustum = scene.add_camera_frustum("/filmed", fov, aspect, scale=size, thickness=0.02 * size, color=(90, 110, 130))
        self._aim(fov, reach)

    def _aim(self, fov: float, reach: float) -> None:
        """Start a little beside and behind the filming camera, looking where it looks."""
        from scipy.spatial.transform import Rotation

        camera = self.set.camera(self.frame)
        right, down, ahead = Rotation.from_quat(np.roll(camera.wxyz, -1)).as_matrix().T
        start = self.server.initial_camera
        start.position = tuple(camera.position - 0.45 * reach * ahead + 0.45 * reach * right - 0.3 * reach * down)
        start.look_at = tuple(camera.position + reach * ahead)
        start.up = (0.0, 1.0, 0.0)
        start.fov = fov

    def show_meshes(self, meshes: Sequence[Mesh]) -> None:
        """Add the surfaces, which may come later than everything else, and show them instead of the points."""
        with self.lock:
            for column, mesh in enumerate(meshes):
                if len(mesh.faces):
                    data = mesh_glb(mesh, self.scene.names[column])
                    name = f"/objects/{column}/mesh"
                    self.meshes.append(self.server.scene.add_glb(name, data, wxyz=MESH_UPRIGHT_WXYZ, cast_shadow=False))
            self.surface.disabled = False
            self.surface.value = MESHES
            self._show_surfaces()

    def _show_surfaces(self) -> None:
        for mesh in self.meshes:
            mesh.visible = self.surface.value != POINTS
        for cloud in self.clouds:
            cloud.visible = self.surface.value != MESHES

    # The panel ------------------------------------------------------------------------------------------------------

    def _build_panel(self) -> None:
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False)
        with gui.add_folder("Time"):
            self.time: Any = gui.add_slider("frame", 0, max(self.scene.n_frames - 1, 1), 1, 0)
            self.play = gui.add_checkbox("play", False)
        self.time.on_update(self._guarded(lambda: self.go_to(int(self.time.value))))
        with gui.add_folder("Scene"):
            self._build_samples(gui)
        with gui.add_folder("Scales"):
            self.sliders: list[Any] = [self._scale_slider(gui, column) for column in range(1, len(self.scene.names))]
            self.validity = gui.add_markdown("")
            self.save = gui.add_button("Save these scales")
        self.save.on_click(lambda event: self._save(event.client))
        with gui.add_folder("Show"):
            self._build_switches(gui)

    def _build_samples(self, gui: Any) -> None:
        n = len(self.contents.samples.score)
        self.sample = gui.add_slider("sample", 0, max(n - 1, 1), 1, 0, disabled=n < 2)
        best = gui.add_button("Most valid sample", disabled=n < 2)
        self.sample.on_update(self._guarded(lambda: self.choose_sample(int(self.sample.value))))
        best.on_click(lambda event: self.choose_sample(int(np.argmax(self.contents.samples.score))))

    def _scale_slider(self, gui: Any, column: int) -> Any:
        low, high = np.exp(self.state.interval(column))
        value = float(self.state.scale[column])
        # Rounding may put a scale that lies on a bound outside of its interval.
        low, high = min(float(low), value), max(float(high), value)
        slider = gui.add_slider(self.scene.names[column], low, high, (high - low) / SLIDER_STEPS or 1e-6, value)
        slider.precision = 4
        slider.on_update(self._guarded(lambda: self.set_scale(column, float(slider.value))))
        return slider

    def _build_switches(self, gui: Any) -> None:
        self.surface = gui.add_dropdown("surfaces", (MESHES, POINTS, BOTH), initial_value=POINTS, disabled=True)
        self.surface.on_update(self._guarded(self._show_surfaces))
        self.switches = [gui.add_checkbox(name, True) for name in self.scene.names]
        self.with_camera = gui.add_checkbox("filmed camera", True)
        self.with_image = gui.add_checkbox("filmed image", True)
        for switch in (*self.switches, self.with_camera, self.with_image):
            switch.on_update(self._guarded(self.refresh))
        gui.add_button("Look through the filmed camera").on_click(lambda event: self._look_through(event.client))

    def _guarded(self, act: Callable[[], None]) -> Callable[[Any], None]:
        """React to a person, not to values that the program itself sets (those come from no client)."""

        def react(event: Any) -> None:
            if event.client is not None:
                with self.lock:
                    act()

        return react

    # What a person can do -------------------------------------------------------------------------------------------

    def go_to(self, frame: int) -> None:
        with self.lock:
            self.frame = min(max(frame, 0), self.scene.n_frames - 1)
            self.refresh()

    def choose_sample(self, index: int) -> None:
        with self.lock:
            self.state = self.state.with_all(self.contents.samples.log_scale[index])
            self.sample.value = index
            self.refresh()

    def set_scale(self, column: int, scale: float) -> None:
        """Move one object's scale; the others' sliders follow what that leaves them."""
        with self.lock:
            self.state = self.state.with_scale(column, float(np.log(scale)))
            self.refresh()

    def _save(self, client: Any) -> None:
        with self.lock:
            number = append_own_sample(self.contents.own_samples, self.state, self.scene.object_ids)
        if client is not None:
            body = f"{self.contents.own_samples.name}, row {number}. Render: osn render --samples {as_choice(self.state)}"
            client.add_notification("Saved", body, auto_close_seconds=12)

    def _look_through(self, client: Any) -> None:
        camera = self.set.camera(self.frame)
        with client.atomic():
            client.camera.wxyz, client.camera.position = camera.wxyz, camera.position
            client.camera.fov = self.frustum.fov

    # Bringing the page up to date -----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Put every node and control where frame and scales want them."""
        with self.lock, self.server.atomic():
            for column, node in enumerate(self.nodes):
                pose = self.set.pose(column, self.frame, float(self.state.scale[column]))
                node.position, node.wxyz, node.scale = pose.position, pose.wxyz, pose.scale
                node.visible = pose.visible and bool(self.switches[column].value)
            self._refresh_camera()
            for column, slider in enumerate(self.sliders, start=1):
                self._refresh_slider(column, slider)
            self.time.value = self.frame
            self.validity.content = validity_text(self.state, self.scene.names)

    def _refresh_camera(self) -> None:
        pose = self.set.camera(self.frame)
        self.frustum.position, self.frustum.wxyz = pose.position, pose.wxyz
        self.frustum.visible = bool(self.with_camera.value) and pose.visible
        self.frustum.image = self._image() if self.with_camera.value and self.with_image.value else None

    def _image(self) -> UInt8[np.ndarray, "h w 3"]:
        import cv2

        image = self.contents.video.frame(self.frame)
        height, width = image.shape[:2]
        size = (min(width, IMAGE_WIDTH_PX), max(1, round(height * min(1.0, IMAGE_WIDTH_PX / width))))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _refresh_slider(self, column: int, slider: Any) -> None:
        low, high = (float(x) for x in np.exp(self.state.interval(column)))
        scale = float(self.state.scale[column])
        slider.min, slider.max = min(low, scale), max(high, scale)
        slider.step = max((high - low) / SLIDER_STEPS, 1e-9)
        slider.value = scale

    def play_until_stopped(self) -> None:
        """Advance time while the box is ticked; returns after `stop`."""
        while not self.stopped.wait(1.0 / max(self.scene.fps, 1.0)):
            if self.play.value:
                self.go_to((self.frame + 1) % self.scene.n_frames)

    def stop(self) -> None:
        self.stopped.set()
        with _quiet():
            self.server.stop()


def _quiet() -> contextlib.AbstractContextManager[object]:
    """viser writes a banner to stdout, where results belong."""
    return contextlib.redirect_stdout(io.StringIO())


def plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no table cell of its own, no picture from elsewhere."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~])", r"\\\1", html.escape(text))


def validity_text(state: ScaleState, names: Sequence[str]) -> str:
    """What is known about the present combination, and each object's interval given the others, as Markdown."""
    verdicts = []
    if state.in_zone is not None:
        verdicts.append("agrees with the occlusions" if state.in_zone else "**contradicts the occlusions**")
    if state.score is not None:
        verdicts.append(f"network score **{state.score:.2f}**")
    rows = ["| object | from | to |", "|:--|--:|--:|"]
    for column in range(1, len(names)):
        ends = zip(np.exp(state.interval(column)), state.assumed_ends(column), strict=True)
        low, high = (f"{end:.3g}{STAR if assumed else ''}" for end, assumed in ends)
        rows.append(f"| {plain_markdown(names[column])} | {low} | {high} |")
    table = "\n".join(rows) if len(names) > 1 else "There is no moving object."
    note = f"\n\n{STAR} an assumption: nothing in the video bounds it." if STAR in table else ""
    return f"{', '.join(verdicts).capitalize()}.\n\n{table}{note}" if verdicts else table + note
