"""`osn options`: what `--set` and `--config` accept."""

import json

from osn_cli.console import Console


def show_options(console: Console, stage: str | None, preset: str) -> None:
    """Table of the options of one stage, or of all, with the defaults of a preset."""
    from pipelines.config import build, list_options
    from pipelines.train import Preset

    options = [option for option in list_options(build(Preset(preset), {})) if stage in (None, option.name.partition(".")[0])]
    rows = [{"option": o.name, "values": o.values, "default": o.value, "description": o.description} for o in options]
    as_typed = [{**row, "default": None if row["default"] is None else json.dumps(row["default"])} for row in rows]
    console.table(f"Options (preset {preset})", list(rows[0]), [list(row.values()) for row in as_typed])
    console.result({"preset": preset, "options": rows})
