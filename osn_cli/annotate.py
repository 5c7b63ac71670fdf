"""`osn annotate`: mark the objects on a page in the browser, and save the prompts file that `osn segment --prompts` reads."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osn_cli.session import Session
from osn_cli.view import require_address
from pipelines.errors import InputError

if TYPE_CHECKING:
    from pipelines.artifacts import Labels

PROMPTS = "prompts.json"


def run(
    session: Session,
    *,
    source: Path | None = None,
    choices: dict[str, dict[str, Any]] | None = None,
    prompts: Path | None = None,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8090,
) -> None:
    """Serve the page until interrupted.

    prompts: the file to continue and to save to; by default that of the segmentation, or else prompts.json in the workspace.
    model: weights of Segment Anything that turn clicks into masks (`sam-vit-b`, ...), "none" for motion and colour; by
        default the first that are on this machine.
    """
    require_address(host, port)
    if prompts is not None and not os.access(prompts.absolute().parent, os.W_OK):
        raise InputError(f"{prompts} cannot be written: give a file in an existing, writable folder")
    run, places = session.execute(["flow", "segment"], source=source, choices=choices)
    from pipelines.annotate.desk import Desk
    from pipelines.annotate.server import AnnotateServer
    from pipelines.artifacts import Flow, Video

    desk = Desk(
        video=Video.load(places["frames"]),
        flow=Flow.load(places["flow"]),
        automatic=automatic_labels(places["segment"], corrected=run.config.segment.prompts is not None),
        path=(prompts or run.config.segment.prompts or session.folder / PROMPTS).absolute(),
        model=chosen_model(model),
        device=run.device,
    )
    with AnnotateServer(desk, host=host, port=port) as server:
        session.console.say(f"The page is at {server.url} (Ctrl-C to stop); prompts are saved to {desk.path}")
        session.console.result({"url": server.url, "prompts": str(desk.path)})
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.console.say("closed")


def automatic_labels(folder: Path, *, corrected: bool) -> "Labels | None":
    """The segmentation before any corrections, so that these are not applied twice; None when it was not kept."""
    from pipelines.artifacts import Labels
    from pipelines.segment import AUTOMATIC

    if not corrected:
        return Labels.load(folder)
    return Labels.load(folder / AUTOMATIC) if (folder / AUTOMATIC).is_dir() else None


def chosen_model(name: str | None) -> str | None:
    """The named weights; else Segment Anything's that are here, where its packages are too."""
    if name is not None:
        return None if name == "none" else name
    from importlib.util import find_spec

    from third_party import weights

    if find_spec("segment_anything") is None or find_spec("torchvision") is None:
        return None
    here = [line.weights.name for line in weights.status() if line.path is not None]
    return next((found for found in here if found.startswith("sam-")), None)
