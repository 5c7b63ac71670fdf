"""Small JSON files, read with clear errors and written in one step."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import WorkspaceError


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkspaceError(f"{path} is missing: run the stage that makes it again with --force") from None
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    except ValueError as error:
        raise WorkspaceError(f"{path} is not JSON ({error}): run the stage that makes it again with --force") from None


def without_nan(content: Any) -> Any:
    """The same, ready for strict JSON: numbers that are not finite become None."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: a reader sees the old content or the new."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
