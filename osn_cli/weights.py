"""`osn weights`: model weights on this machine. Only `pull` ever downloads."""

from pathlib import Path
from typing import Annotated

import typer

from osn_cli.options import gathered, session_options
from osn_cli.session import Session
from pipelines.errors import MissingDependencyError, UsageError

app = typer.Typer(help="Model weights: list, pull, verify. Nothing else downloads anything.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name from osn weights list.")]


@app.command("list")
@gathered(session=session_options)
def list_command(session: Session) -> None:
    """What exists, its licence and size, and where it lies on this machine."""
    from third_party import weights

    rows = [
        {
            "name": line.weights.name,
            "purpose": line.weights.purpose,
            "licence": line.weights.licence,
            "MB": line.weights.size_mb,
            "path": str(line.path) if line.path else None,
        }
        for line in weights.status()
    ]
    session.console.table("Weights", list(rows[0]), [list(row.values()) for row in rows])
    session.console.result({"weights": rows})


@app.command()
@gathered(session=session_options)
def pull(
    session: Session,
    name: Name,
    folder: Annotated[Path | None, typer.Option("--to", help="Folder (OSN_WEIGHTS_DIR, or the user's cache).")] = None,
) -> None:
    """Download weights and check them; an interrupted download goes on."""
    from third_party import weights
    from third_party.errors import UnavailableError, UnknownNameError

    reached = 0
    with session.console.task(name, total=100) as advance:

        def progress(file: str, done: int, total: int) -> None:
            nonlocal reached
            percent = 100 * done // total if total else 0
            advance(percent - reached)
            reached = percent

        try:
            path = weights.pull(name, folder, progress)
        except UnknownNameError as error:
            raise UsageError(str(error)) from None
        except UnavailableError as error:
            raise MissingDependencyError(str(error)) from None
    session.console.say(f"{name}: {path}")
    session.console.result({"name": name, "path": str(path)})


@app.command()
@gathered(session=session_options)
def verify(
    session: Session, name: Name, path: Annotated[Path | None, typer.Option("--path", help="A file elsewhere.")] = None
) -> None:
    """Compare the hash of weights with the published one."""
    from third_party import weights
    from third_party.errors import UnavailableError, UnknownNameError

    try:
        trust = weights.verify(name, path)
    except UnknownNameError as error:
        raise UsageError(str(error)) from None
    except UnavailableError as error:
        raise MissingDependencyError(str(error)) from None
    session.console.say(f"{name}: hash is right ({trust})" if trust != weights.Trust.UNKNOWN else f"{name}: no hash is known")
    session.console.result({"name": name, "trust": str(trust)})
