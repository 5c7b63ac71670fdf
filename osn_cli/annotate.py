"""`osn annotate`: mark the objects on a page in the browser, and save the prompts file that `osn segment --prompts` reads."""

from pathlib import Path
from typing import Any

from osn_cli.session import Session

PROMPTS = "prompts.json"


def run(
    session: Session,
    *,
    source: Path | None = None,
    choices: dict[str, dict[str, Any]] | None = None,
    prompts: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8090,
) -> None:
    """Serve the page until interrupted.

    prompts: the file to go on with and to save to; prompts.json in the workspace when not given.
    """
    _, places = session.execute(["flow", "segment"], source=source, choices=choices)
    from pipelines.annotate.desk import Desk
    from pipelines.annotate.server import AnnotateServer
    from pipelines.artifacts import Flow, Labels, Video
    from pipelines.segment import AUTOMATIC

    automatic = places["segment"] / AUTOMATIC
    desk = Desk(
        video=Video.load(places["frames"]),
        flow=Flow.load(places["flow"]),
        automatic=Labels.load(automatic if automatic.is_dir() else places["segment"]),
        path=(prompts or session.folder / PROMPTS).absolute(),
    )
    with AnnotateServer(desk, host=host, port=port) as server:
        session.console.say(f"The page is at {server.url} (Ctrl-C ends it); prompts are saved to {desk.path}")
        session.console.result({"url": server.url, "prompts": str(desk.path)})
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.console.say("closed")
