import http.client
import io
import json
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from pipelines.annotate.server import AnnotateServer
from pipelines.errors import WorkspaceError
from pipelines.segmentation.prompts import PromptFile


def ask(page, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.server_address[1], timeout=30)
    connection.request(method, path, None if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse()
    content = answer.status, answer.read()
    connection.close()
    return content


def test_the_page_and_what_it_needs_are_served(page):
    for path, start in (("/", b"<!doctype html>"), ("/annotate.js", b"//"), ("/annotate.css", b":root")):
        status, content = ask(page, "GET", path)
        assert status == 200
        assert content.startswith(start)
    status, content = ask(page, "GET", "/api/frames/2")
    assert Image.open(io.BytesIO(content)).size == (96, 64)
    start = json.loads(ask(page, "GET", "/api/start")[1])
    assert start["automatic"] == ["background", "upper", "lower"]


def test_labels_come_as_an_image(page):
    prompts = page.desk.start().model_dump(mode="json")
    status, content = ask(page, "POST", "/api/labels/1", prompts | {"background": [2]})
    assert status == 200
    assert np.array_equal(np.array(Image.open(io.BytesIO(content))) == 1, page.desk.automatic.maps[1] == 1)


def test_saving_writes_the_prompts_file(page):
    prompts = page.desk.start().model_dump(mode="json") | {"merge": [[1, 2]]}
    status, content = ask(page, "POST", "/api/save", prompts)
    assert status == 200
    assert json.loads(content) == {"saved": str(page.desk.path)}
    assert PromptFile.load(page.desk.path).merge == ((1, 2),)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "complaint"),
    [
        ("GET", "/../desk.py", None, 404, "there is nothing at"),
        ("GET", "/api/frames/4", None, 404, "there is nothing at"),
        ("POST", "/api/labels/4", {}, 400, "no frame 4"),
        ("POST", "/api/labels/0", {"frames": 3}, 400, "what the page sent is not a prompts file"),
        ("POST", "/api/save", None, 400, "a request of 0 bytes"),
    ],
)
def test_bad_requests_are_answered_in_one_line(page, method, path, body, status, complaint):
    if body == {}:
        body = page.desk.start().model_dump(mode="json")
    found, content = ask(page, method, path, body)
    assert found == status
    assert complaint in json.loads(content)["error"]


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_other_pages_are_refused(page, headers):
    status, content = ask(page, "POST", "/api/save", page.desk.start().model_dump(mode="json"), headers)
    assert status == 403
    assert "its own page only" in json.loads(content)["error"]
    assert not page.desk.path.exists()


def test_pictures_are_not_kept_by_the_browser(page):
    """The next video at this port has the same addresses."""
    with urlopen(f"{page.url}/api/frames/0") as answer:
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "asked", "answers"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "192.168.1.5", False),
        ("0.0.0.0", "192.168.1.5", True),
        ("0.0.0.0", "fe80::1", True),
        ("0.0.0.0", "evil.example", False),
        ("0.0.0.0", None, False),
    ],
)
def test_an_open_server_answers_to_addresses_but_not_to_unknown_names(page, host, asked, answers):
    with AnnotateServer(page.desk, host=host, port=0) as server:
        assert server.answers_to(asked) is answers
        assert "0.0.0.0" not in server.url


def test_a_taken_port_is_said(page):
    with pytest.raises(WorkspaceError, match="choose another with --port"):
        AnnotateServer(page.desk, host="127.0.0.1", port=page.server_address[1])


def test_clicking_in_a_browser_marks_and_saves(browser, page):
    browser.open(page.url)
    idle = "document.body.dataset.busy === undefined"
    browser.wait_for(f"return {idle} && document.querySelectorAll('#objects li').length === 2")
    before = browser.screenshot()
    browser.run("document.getElementById('base').value = 'nothing'")
    browser.run("document.getElementById('base').dispatchEvent(new Event('change'))")
    place = browser.run(
        "const r = document.getElementById('marks').getBoundingClientRect(); return [r.x + r.width * 0.4, r.y + r.height * 0.3]"
    )
    steps = [
        {"type": "pointerMove", "x": round(place[0]), "y": round(place[1])},
        {"type": "pointerDown", "button": 0},
        {"type": "pointerUp", "button": 0},
    ]
    mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
    browser.call("/actions", {"actions": [mouse]})
    browser.wait_for(f"return {idle}")
    assert browser.screenshot() != before
    browser.run("document.getElementById('save').click()")
    browser.wait_for("return document.getElementById('message').textContent.startsWith('Saved')")
    (prompt,) = PromptFile.load(page.desk.path).prompts
    assert (prompt.object, prompt.frame, prompt.points[0].positive) == (1, 0, True)
    assert abs(prompt.points[0].x - 0.4 * 96) < 0.5
    assert browser.complaints() == []


IDLE = "document.body.dataset.busy === undefined && document.querySelectorAll('#objects li').length"


def test_names_can_be_undone_and_what_is_gone_is_no_longer_selected(browser, page):
    browser.open(page.url)
    browser.wait_for(f"return {IDLE} === 2")

    def names() -> list[str]:
        return browser.run("return [...document.querySelectorAll('#objects input')].map((field) => field.value)")

    def is_enabled(button: str) -> bool:
        return browser.run(f"return !document.getElementById('{button}').disabled")

    def click(button: str) -> None:
        browser.run(f"document.getElementById('{button}').click()")

    def leaving_asks() -> bool:
        return browser.run("return !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")

    assert not leaving_asks()
    click("add")
    browser.wait_for(f"return {IDLE} === 3")
    click("undo")
    browser.wait_for(f"return {IDLE} === 2")
    assert browser.run("return document.querySelectorAll('#objects .selected').length") == 0
    assert is_enabled("redo") and not leaving_asks()

    browser.run(
        "const field = document.querySelector('#objects input');"
        "field.value = 'lid'; field.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert not is_enabled("redo") and is_enabled("undo") and leaving_asks()
    assert browser.run("return document.querySelector('#objects option[value=\"into 1\"]').textContent") == "merge into lid"
    assert browser.run(f"return {IDLE} === 2")
    click("undo")
    browser.wait_for(f"return {IDLE} === 2")
    assert names() == ["upper", "lower"] and not leaving_asks()
    click("redo")
    browser.wait_for(f"return {IDLE} === 2")
    assert names() == ["lid", "lower"]
    click("save")
    browser.wait_for("return document.getElementById('message').textContent.startsWith('Saved')")
    assert [one.name for one in PromptFile.load(page.desk.path).objects] == ["lid", "lower"]
    assert not leaving_asks()
    assert browser.complaints() == []
