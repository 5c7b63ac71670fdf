import io
import json

import pytest
from rich.console import Console as RichConsole

from osn_cli.console import Console, Verbosity, format_cell


@pytest.fixture
def streams() -> tuple[io.StringIO, io.StringIO]:
    return io.StringIO(), io.StringIO()


def console(streams, **options) -> Console:
    out, err = streams
    return Console(out=RichConsole(file=out, width=200), err=RichConsole(file=err, width=200), **options)


def test_results_go_to_stdout_and_talk_to_stderr(streams):
    told = console(streams)
    told.started("flow", "not made yet")
    told.note("a fallback")
    told.say("4 objects")
    assert streams[0].getvalue() == "4 objects\n"
    assert streams[1].getvalue() == "flow      not made yet\n  note a fallback\n"


def test_json_is_all_that_stdout_gets(streams):
    told = console(streams, json_output=True)
    told.say("for people")
    told.table("t", ["a"], [[1]])
    told.result({"n": 3, "path": "ä"})
    assert json.loads(streams[0].getvalue()) == {"n": 3, "path": "ä"}


def test_quiet_says_only_errors(streams):
    told = console(streams, verbosity=Verbosity.QUIET)
    told.started("flow", "not made yet")
    told.say("4 objects")
    told.error("no such\nvideo")
    assert streams[0].getvalue() == ""
    assert streams[1].getvalue() == "error no such video\n"


def test_markup_in_messages_is_text(streams):
    told = console(streams)
    told.error("pip install 'osn-cli[usd]'")
    assert streams[1].getvalue() == "error pip install 'osn-cli[usd]'\n"


def test_no_bars_where_nobody_looks(streams):
    told = console(streams)
    with told.task("flow", 3) as advance:
        advance(1)
    assert streams[1].getvalue() == ""


def test_bars_on_a_terminal_show_count_and_rate(streams):
    out, err = streams
    told = Console(out=RichConsole(file=out), err=RichConsole(file=err, force_terminal=True, width=120))
    with told.task("flow", 3) as advance, told.task("inner", 2) as inner:
        advance(3)
        inner(1)
    assert "flow" in err.getvalue()
    assert told.bars is None


@pytest.mark.parametrize(
    ("cell", "text"),
    [(None, "-"), (True, "yes"), (False, "no"), (0.123456, "0.123"), (12, "12"), ("a", "a"), (1234.5, "1.23e+03")],
)
def test_cells(cell, text):
    assert format_cell(cell) == text
