"""Groups of options that several commands share, and the decorator that adds them to a command's own.

The values of closed choices are written here once more, as literals, because importing the stages' enumerations takes longer
than `osn --help` may; a test compares the two.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from osn_cli.console import Console, Verbosity
from osn_cli.session import DEFAULT_WORKSPACE, Session
from pipelines.errors import InputError, UsageError

SHARED = "Shared options"

FlowChoice = Literal["dis", "raft-small", "raft-large"]
MeasureChoice = Literal["linear", "log"]
MeshFormatChoice = Literal["ply", "obj", "glb"]
MethodChoice = Literal["motion", "masks", "sam", "sam2"]
ModelChoice = Literal["sam-vit-b", "sam-vit-l", "sam-vit-h", "none"]
PresetChoice = Literal["fast", "default", "paper"]
StageChoice = Literal["frames", "flow", "segment", "tracks", "sfm", "train", "sample", "render", "export", "evaluate"]


def gathered(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let several commands share groups of options: `@gathered(session=session_options)` fills the argument `session`.

    Typer sees one flat signature: the command's own arguments, then those of the groups, which are collected by
    calling each group's function. A group can be made of others in the same way.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        parameters = {name: dict(inspect.signature(collect).parameters) for name, collect in groups.items()}
        own = [p for name, p in inspect.signature(command).parameters.items() if name not in groups]

        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            collected = {name: groups[name](**{key: arguments.pop(key) for key in keys}) for name, keys in parameters.items()}
            return command(**collected, **arguments)

        grouped = [p for members in parameters.values() for p in members.values()]
        merged = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *grouped)]
        run.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
        return run

    return decorate


def console_options(
    *,
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=SHARED)] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also list what is up to date.", rich_help_panel=SHARED)
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=SHARED)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=SHARED)] = False,
) -> Console:
    """What every command takes: set up the console that `osn_cli.app.main` reports errors on, too."""
    console = context.ensure_object(Console)
    console.verbosity = Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.NORMAL
    console.json_output, console.debug = json, debug
    return console


@gathered(console=console_options)
def configuration_options(
    console: Console,
    *,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of options.", rich_help_panel=SHARED)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="STAGE.OPTION=VALUE", help="Set any option; osn options lists them.", rich_help_panel=SHARED
        ),
    ] = None,
    preset: Annotated[
        PresetChoice | None, typer.Option("--preset", help="Size and length of training.", rich_help_panel=SHARED)
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="auto|cpu|cuda",
            help="Where training and rendering run.",
            autocompletion=lambda: ["auto", "cpu", "cuda"],
            rich_help_panel=SHARED,
        ),
    ] = "auto",
) -> Session:
    """What every command takes that reads the options of stages."""
    return Session(console, config_file=config, assignments=tuple(set_ or ()), preset=preset, device=device)


@gathered(session=configuration_options)
def rerun_options(
    session: Session,
    *,
    force: Annotated[bool, typer.Option("--force", help="Recompute even if up to date.", rich_help_panel=SHARED)] = False,
    from_: Annotated[
        StageChoice | None,
        typer.Option("--from", metavar="STAGE", help="Recompute this stage and all later ones.", rich_help_panel=SHARED),
    ] = None,
) -> Session:
    """What every command takes that runs stages."""
    return replace(session, force=force, from_stage=from_)


WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="OSN_WORKSPACE", help="Workspace folder.", rich_help_panel=SHARED),
]


@gathered(session=configuration_options)
def reading_options(session: Session, *, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> Session:
    """For commands that look at a workspace and run no stages."""
    return replace(session, folder=workspace)


@gathered(session=rerun_options)
def session_options(session: Session, *, workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> Session:
    """For commands that run stages in a workspace."""
    return replace(session, folder=workspace)


def preprocessing_options(
    *,
    start: Annotated[float | None, typer.Option("--start", help="Use the video from this time on, in seconds.")] = None,
    end: Annotated[float | None, typer.Option("--end", help="Use the video up to this time, in seconds.")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Frames per second to keep.")] = None,
    max_frames: Annotated[int | None, typer.Option("--max-frames", help="Use at most this many frames.")] = None,
    max_side: Annotated[int | None, typer.Option("--max-side", help="Longer side of the working frames in px.")] = None,
    flow: Annotated[FlowChoice | None, typer.Option("--flow", help="Optical flow method.")] = None,
    method: Annotated[MethodChoice | None, typer.Option("--method", help="How objects are found.")] = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Folder of label maps to use instead of finding the objects.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="JSON file of clicks and boxes.")] = None,
    objects: Annotated[int | None, typer.Option("--objects", help="Number of moving objects, if known.")] = None,
    focal_px: Annotated[
        float | None, typer.Option("--focal-px", help="Focal length in px of the original footage, if known.")
    ] = None,
    fov_deg: Annotated[float | None, typer.Option("--fov-deg", help="Horizontal field of view in degrees, if known.")] = None,
) -> dict[str, dict[str, Any]]:
    """Choices of the stages from frames to sfm, as `pipelines.config` nests them."""
    for path, what in ((masks, "a folder of label maps"), (prompts, "a JSON file of clicks and boxes")):
        if path is not None and not path.exists():
            raise InputError(f"{path} does not exist: give {what}")
    if masks is not None and method not in (None, "masks"):
        raise UsageError(f"--masks and --method {method} exclude each other: give only one of them")
    if masks is not None:
        method = "masks"
    return {
        "frames": {"start_s": start, "end_s": end, "fps": fps, "max_frames": max_frames, "max_side": max_side},
        "flow": {"method": flow},
        "segment": {"method": method, "masks": masks, "prompts": prompts, "objects": objects},
        "sfm": {"focal_px": focal_px, "fov_deg": fov_deg},
    }
