"""Rows of benchmark tables: printed as Markdown, and kept as JSON lines so that runs can be compared and continued.

A row is a flat mapping; `table` names the table, the values that are not numbers tell rows of a table apart.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
KEPT_IN = "OSN_BENCHMARK_ROWS"
"""Environment variable: file to which every recorded row is added."""


def record(table: str, row: Row, path: Path | None = None) -> None:
    """Add a row to `path`, and to the file that the environment names."""
    line = json.dumps({"table": table, **row})
    for place in (path, os.environ.get(KEPT_IN)):
        if place:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def stored(path: Path) -> list[Row]:
    """Rows of a file; none where there is no file. A last line that a kill cut off is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """A table with the columns of all rows, in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "table"))
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(written(row.get(name)) for name in columns) + " |" for row in rows]
    return "\n".join(lines)


def written(value: object) -> str:
    """Numbers with as many digits as they are worth; nothing where there is nothing."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
