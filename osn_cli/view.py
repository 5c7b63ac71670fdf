"""`osn view`: the scenes in the browser, over time and at any scales."""

import socket
import threading
from typing import TYPE_CHECKING, Any

from osn_cli.console import Console
from osn_cli.session import Session
from pipelines.errors import MissingDependencyError, OsnError, ReconstructionError, UsageError, WorkspaceError

if TYPE_CHECKING:
    from pipelines.artifacts import Samples
    from pipelines.runner import Inputs
    from pipelines.viewer.app import Viewer

OWN_SAMPLES = "own_samples.csv"


def run(session: Session, *, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Show the sampled scenes until interrupted.

    Raises MissingDependencyError: viser is not installed.
    """
    require_viser()
    require_address(host, port)
    from pipelines.artifacts import Samples
    from pipelines.runner import Inputs

    try:
        run, _ = session.execute(["sample"])
        inputs = Inputs(run.workspace, run.config, run.source, run.device)
        samples = inputs.samples
    except ReconstructionError as error:
        run, _ = session.execute(["train"])
        session.console.note(f"there are no sampled scenes, only the sliders: {error}")
        inputs = Inputs(run.workspace, run.config, run.source, run.device)
        samples = Samples.none(inputs.scene.object_ids)
    viewer = open_viewer(inputs, samples, host=host, port=port)
    session.console.say(f"The viewer runs at {viewer.url} (Ctrl-C to stop); surfaces appear once they are ready")
    session.console.result({"url": viewer.url})
    threading.Thread(target=add_meshes, args=(viewer, inputs, session.console), daemon=True).start()
    try:
        viewer.play_until_stopped()
    except KeyboardInterrupt:
        session.console.say("closed")
    finally:
        viewer.stop()


def require_viser() -> None:
    """Raises MissingDependencyError: viser is not installed."""
    from importlib.util import find_spec

    if find_spec("viser") is None:
        raise MissingDependencyError('osn view needs the package viser: pip install "osn-cli[view]"')


def require_address(host: str, port: int) -> None:
    """Raises UsageError: this machine has no such address, so a server there would wait forever. WorkspaceError: the port is
    in use."""
    try:
        socket.create_server((host, 0)).close()
    except OSError as error:
        raise UsageError(
            f"--host {host}: cannot listen on this address ({error.strerror}); 127.0.0.1 is this machine"
        ) from None
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise WorkspaceError(f"port {port} on {host} cannot be used ({error.strerror}): choose another with --port") from None


def open_viewer(inputs: "Inputs", samples: "Samples", *, host: str, port: int) -> "Viewer":
    """The viewer of a workspace's scene, with points; surfaces are added later."""
    from pipelines.viewer.app import Contents, Viewer

    scene, sfm = inputs.scene, inputs.sfm
    contents = Contents(
        scene=scene,
        samples=samples,
        video=inputs.video,
        points=[(sfm.objects[label].points, sfm.objects[label].point_rgb) for label in scene.object_ids],
        zone=scene.zone,
        network=scene.network,
        log_scale_range=scene.log_scale_range,
        own_samples=inputs.workspace.folder / OWN_SAMPLES,
    )
    return Viewer(contents, host=host, port=port)


def add_meshes(viewer: "Viewer", inputs: "Inputs", console: Console) -> None:
    """Load or make the surfaces, which takes seconds to minutes, while the points are already shown."""
    from pipelines.meshing.surfaces import scene_meshes
    from pipelines.stage import StageContext

    context = StageContext(inputs.workspace.folder, inputs.workspace.items("export"), device=inputs.device)
    asked: dict[str, Any] = {"scene": inputs.scene, "labels": inputs.corrected_labels, "video": inputs.video}
    try:
        viewer.show_meshes(scene_meshes(inputs.config.export.meshing, **asked, context=context))
    except OsnError as error:
        console.error(f"no surfaces can be shown, only points: {error}")
