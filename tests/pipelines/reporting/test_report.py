import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pipelines.meshing.surfaces import MeshConfig
from pipelines.reporting.findings import Findings, StageRecord
from pipelines.reporting.report import ReportConfig, report_notes, report_page, write_report
from pipelines.reporting.scenes import sample_pictures

SMALL = ReportConfig(
    samples=3,
    picture_width_px=64,
    meshing=MeshConfig(object_cells=32, background_cells=48, max_views=4, view_width_px=64, background_max_faces=4000),
)


class References(HTMLParser):
    """Everything that a page asks for, and whether its elements are nested rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.asked += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(toy_findings, tmp_path_factory) -> str:
    from pipelines.stage import ItemCache, StageContext

    folder = tmp_path_factory.mktemp("report")
    return report_page(SMALL, toy_findings, StageContext(folder, ItemCache(folder / "items")))


def test_the_page_asks_for_nothing_but_itself(page):
    references = References()
    references.feed(page)
    assert references.open == []
    assert all(asked.startswith(("data:", "#")) for asked in references.asked)
    assert not re.search(r"https?://", page)


def test_names_and_reasons_are_escaped(page):
    assert "toy &lt;1&gt;.mp4" in page
    assert "41 tracks &lt;too few&gt; &amp; short" in page


def test_every_section_is_there(page):
    for title in ("Objects", "Scales", "Sampled scenes", "One scene in 3D", "Training", "Stages and settings"):
        assert f"<h2>{title}</h2>" in page
    assert "steps = 1000" in page
    assert "not-registered" in page
    assert "ball hides background in frame 2 at pixel (40.5, 50.5)" in page


def test_notes_name_what_is_assumed_lost_or_old(toy_findings):
    notes = report_notes(toy_findings)
    assert notes == [
        "The results of flow are out of date: option flow.method changed from dis to raft-small.",
        "lost: 41 tracks <too few> & short.",
        "The focal length is assumed: give it with --focal-px or --fov-deg if you know it.",
        "The lower end of the scale of ball, box is an assumption: nothing in the video bounds it.",
        "The upper end of the scale of box is an assumption: nothing in the video bounds it.",
    ]


def test_sections_of_stages_that_have_not_run_say_so(context):
    empty = Findings(source="clip.mp4", stages=(StageRecord("frames", None, None, ""),))
    page = report_page(SMALL, empty, context)
    for command in ("osn segment", "osn sfm", "osn train", "osn sample"):
        assert f"run {command}." in page
    assert "not made yet" in page


def test_a_second_report_renders_nothing(toy_findings, context, monkeypatch):
    first = write_report(SMALL, toy_findings, context.out / "report.html", context=context)
    before = first.stat().st_size

    def refuse(*args, **kwargs):
        raise AssertionError("rendered again")

    monkeypatch.setattr(type(toy_findings.scene), "render", refuse)
    monkeypatch.setattr(type(toy_findings.scene), "alone_maps", refuse)
    assert write_report(SMALL, toy_findings, context.out / "report.html", context=context).stat().st_size == before


def test_what_was_never_seen_is_hatched_from_beside_and_nothing_in_the_filmed_view(toy_scene, toy_samples, context):
    """The toy room is opaque everywhere, as trained backgrounds are: opacity says nothing about what was seen."""
    pictures = sample_pictures(toy_scene, toy_samples, n=1, width_px=64, turn_deg=40.0, context=context)

    def share_hatched(picture) -> float:
        grey = (np.ptp(picture.astype(int), axis=-1) == 0) & np.isin(picture[..., 0], (189, 219))
        return float(grey.mean())

    assert 0.1 < share_hatched(pictures.novel[0]) < 0.9
    assert share_hatched(pictures.filmed) < 0.01


def test_a_contradiction_is_reported_instead_of_intervals(toy_findings, toy_zone, context):
    bounds = toy_zone.bounds.copy()
    bounds[1, 0] = -0.9
    empty = replace(toy_findings, zone=replace(toy_zone, bounds=bounds))
    page = report_page(SMALL, empty, context)
    assert "no scales agree with all of these, they are off by a factor of 1.35" in page


def test_the_page_runs_without_complaint_in_a_browser(browser, page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    browser.open(path.as_uri())
    browser.wait_for("return document.querySelector('video').readyState >= 2")
    browser.run("document.getElementById('scene-canvas').scrollIntoView()")
    pictures = []
    for frame in (0, 6):
        browser.run(
            "const time = document.getElementById('scene-time');"
            "time.value = arguments[0]; time.dispatchEvent(new Event('input'));",
            frame,
        )
        assert browser.run("return document.getElementById('scene-frame').textContent") == str(frame)
        pictures.append(browser.screenshot())
    assert pictures[0] != pictures[1]
    assert browser.complaints() == []
