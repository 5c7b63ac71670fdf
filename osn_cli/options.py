"""Groups of options that several commands share, and the decorator that adds them to a command's own."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from osn_cli.console import Console, Verbosity
from osn_cli.session import DEFAULT_WORKSPACE, Session
from pipelines.errors import InputError, UsageError

SHARED = "Shared options"


def session_options(
    *,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Folder of all results (osn-work).", rich_help_panel=SHARED)
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of options.", rich_help_panel=SHARED)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Any option.", rich_help_panel=SHARED)
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="fast, default or paper.", rich_help_panel=SHARED)] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", rich_help_panel=SHARED)] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Run again although up to date.", rich_help_panel=SHARED)] = False,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Run this and later stages again.", rich_help_panel=SHARED)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.", rich_help_panel=SHARED)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=SHARED)] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=SHARED)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=SHARED)] = False,
) -> Session:
    """Collect the shared options."""
    verbosity = Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL
    folder = workspace or Path(os.environ.get("OSN_WORKSPACE") or DEFAULT_WORKSPACE)
    console = Console(verbosity, json_output=json)
    return Session(console, folder, config, tuple(set_ or ()), preset, device, force, from_, debug)


def preprocessing_options(
    *,
    start: Annotated[float | None, typer.Option("--start", help="Use the video from this second on.")] = None,
    end: Annotated[float | None, typer.Option("--end", help="... up to this second.")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second to keep.")] = None,
    max_frames: Annotated[int | None, typer.Option("--max-frames", help="Use at most this many frames.")] = None,
    max_side: Annotated[int | None, typer.Option("--max-side", help="Longer side of the working frames, px.")] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="dis, raft-small or raft-large.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="motion, masks, sam or sam2.")] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder of label maps to use instead of finding the objects.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="JSON file of clicks and boxes.")] = None,
    objects: Annotated[int | None, typer.Option("--objects", help="Number of moving objects, when known.")] = None,
    focal_px: Annotated[
        float | None, typer.Option("--focal-px", help="Focal length in px of the footage as filmed, when known.")
    ] = None,
    fov_deg: Annotated[float | None, typer.Option("--fov-deg", help="Horizontal field of view, when known.")] = None,
) -> dict[str, dict[str, Any]]:
    """Choices of the stages from frames to sfm, as `pipelines.config` nests them."""
    for path, what in ((masks, "a folder of label maps"), (prompts, "a JSON file of clicks and boxes")):
        if path is not None and not path.exists():
            raise InputError(f"{path} does not exist: give {what}")
    if masks is not None and method not in (None, "masks"):
        raise UsageError(f"--masks and --method {method}: give one of them")
    if masks is not None:
        method = "masks"
    return {
        "frames": {"start_s": start, "end_s": end, "fps": fps, "max_frames": max_frames, "max_side": max_side},
        "flow": {"method": flow},
        "segment": {"method": method, "masks": masks, "prompts": prompts, "objects": objects},
        "sfm": {"focal_px": focal_px, "fov_deg": fov_deg},
    }


def gathered(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let several commands share groups of options: `@gathered(session=session_options)` fills the argument `session`.

    Typer sees one flat signature: the command's own arguments, then those of the groups, which are collected by
    calling each group's function.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = {name: dict(inspect.signature(collect).parameters) for name, collect in groups.items()}
        own = [p for name, p in inspect.signature(command).parameters.items() if name not in groups]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            collected = {name: groups[name](**{key: arguments.pop(key) for key in keys}) for name, keys in parameters.items()}
            command(**collected, **arguments)

        grouped = [p for members in parameters.values() for p in members.values()]
        merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *grouped)]
        run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
        return run

    return decorate
