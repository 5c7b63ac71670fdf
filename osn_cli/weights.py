"""`osn weights`: model weights on this machine. Only `pull` ever downloads anything."""

from pathlib import Path
from typing import Annotated

import typer

from osn_cli.console import Console
from osn_cli.options import console_options, gathered
from pipelines.errors import MissingDependencyError, UsageError

app = typer.Typer(help="List, download and verify model weights. No other command downloads anything.", no_args_is_help=True)


def known_names() -> list[str]:
    """For shell completion."""
    from third_party import weights

    return list(weights.registry())


Name = Annotated[str, typer.Argument(help="A name from osn weights list.", autocompletion=known_names)]


@app.command("list")
@gathered(console=console_options)
def list_command(console: Console) -> None:
    """List all weights with licence, size, and where they are on this machine."""
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
    console.table("Weights", list(rows[0]), [list(row.values()) for row in rows])
    console.result({"weights": rows})


@app.command()
@gathered(console=console_options)
def pull(
    console: Console,
    name: Name,
    folder: Annotated[
        Path | None, typer.Option("--to", help="Destination folder (default: OSN_WEIGHTS_DIR, or else the user's cache).")
    ] = None,
) -> None:
    """Download weights and verify them. Run again to resume an interrupted download."""
    from third_party import weights
    from third_party.errors import UnavailableError, UnknownNameError

    reached = 0
    with console.task(name, total=100) as advance:

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
    console.say(f"{name}: {path}")
    console.result({"name": name, "path": str(path)})


@app.command()
@gathered(console=console_options)
def verify(
    console: Console,
    name: Name,
    path: Annotated[Path | None, typer.Option("--path", help="Verify this file or folder instead.")] = None,
) -> None:
    """Compare the hash of weights with the known one."""
    from third_party import weights
    from third_party.errors import UnavailableError, UnknownNameError

    try:
        trust = weights.verify(name, path)
    except UnknownNameError as error:
        raise UsageError(str(error)) from None
    except UnavailableError as error:
        raise MissingDependencyError(str(error)) from None
    console.say(
        f"{name}: no known hash to compare with" if trust == weights.Trust.UNKNOWN else f"{name}: hash matches ({trust})"
    )
    console.result({"name": name, "trust": str(trust)})
