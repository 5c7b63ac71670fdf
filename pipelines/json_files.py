"""Small JSON files, read with clear errors and written in one step."""

import json
from pathlib import Path
from typing import Any

from pipelines.errors import WorkspaceError


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkspaceError(f"{path} is missing: run the stage that makes it again with --force") from None
    except ValueError as error:
        raise WorkspaceError(f"{path} is not JSON ({error}): run the stage that makes it again with --force") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: a reader sees the old content or the new."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
