import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import InputError, WorkspaceError
from pipelines.stage import ItemCache
from pipelines.store import Verdict, Workspace

INGREDIENTS = {"option frames.fps": 12, "input video": "abc", "code version": 1}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "späce here" / "osn-work")
    made.create()
    return made


def write(folder: Path) -> None:
    (folder / "inner").mkdir(exist_ok=True)
    (folder / "inner" / "a.txt").write_text("content")
    (folder / "b.txt").write_text("more")


def test_a_result_is_reused_only_for_the_same_ingredients(workspace):
    assert workspace.check("frames", INGREDIENTS) == Verdict(False, "not made yet")
    workspace.make("frames", INGREDIENTS, write)
    assert workspace.check("frames", INGREDIENTS) == Verdict(True, "up to date")
    changed = workspace.check("frames", {**INGREDIENTS, "option frames.fps": 24, "input video": "xyz"})
    assert changed == Verdict(False, "input video changed; option frames.fps changed from 12 to 24")


@pytest.mark.parametrize("damage", ["missing", "shorter", "flipped", "manifest"])
def test_a_damaged_result_is_noticed_and_healed(workspace, damage):
    workspace.make("frames", INGREDIENTS, write)
    victim = workspace.place("frames") / "inner" / "a.txt"
    match damage:
        case "missing":
            victim.unlink()
        case "shorter":
            victim.write_text("cont")
        case "flipped":
            victim.write_text("c0ntent")
        case "manifest":
            (workspace.place("frames") / "manifest.json").write_text("{")
    verdict = workspace.check("frames", INGREDIENTS)
    assert not verdict.hit
    assert "damaged" in verdict.reason
    workspace.make("frames", INGREDIENTS, write)
    assert workspace.check("frames", INGREDIENTS).hit
    assert victim.read_text() == "content"


def test_a_touched_but_equal_file_is_no_damage(workspace):
    workspace.make("frames", INGREDIENTS, write)
    os.utime(workspace.place("frames") / "b.txt", (1, 1))
    assert workspace.check("frames", INGREDIENTS).hit


def test_thorough_check_sees_a_change_behind_the_time_stamp(workspace):
    workspace.make("frames", INGREDIENTS, write)
    victim = workspace.place("frames") / "b.txt"
    before = victim.stat()
    victim.write_text("m0re")
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert workspace.check("frames", INGREDIENTS).hit
    assert not workspace.check("frames", INGREDIENTS, thorough=True).hit


def test_a_failed_run_leaves_the_old_result(workspace):
    workspace.make("frames", INGREDIENTS, write)

    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.make("frames", {**INGREDIENTS, "code version": 2}, fail)
    assert workspace.check("frames", INGREDIENTS).hit
    assert sorted(p.name for p in workspace.place("frames").iterdir()) == ["b.txt", "inner", "manifest.json"]


@pytest.mark.parametrize(("resumable", "expected"), [(True, ["checkpoint"]), (False, [])])
def test_only_a_resumable_stage_finds_what_was_interrupted(workspace, resumable, expected):
    def fail(folder: Path) -> None:
        (folder / "checkpoint").write_text("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.make("train", INGREDIENTS, fail, resumable=resumable)
    found: list[str] = []
    workspace.make("train", INGREDIENTS, lambda folder: found.extend(p.name for p in folder.iterdir()), resumable=resumable)
    assert found == expected


def test_a_kill_between_finishing_and_moving_costs_nothing(workspace, monkeypatch):
    monkeypatch.setattr(Workspace, "_adopt", lambda self, name, key: None)
    workspace.make("frames", INGREDIENTS, write)
    assert not workspace.place("frames").exists()
    monkeypatch.undo()
    assert workspace.check("frames", INGREDIENTS).hit
    assert (workspace.place("frames") / "b.txt").read_text() == "more"


def test_equal_content_has_an_equal_digest(workspace):
    workspace.make("frames", INGREDIENTS, write)
    first = workspace.manifest("frames")
    workspace.make("frames", {**INGREDIENTS, "code version": 2}, write)
    second = workspace.manifest("frames")
    assert first is not None and second is not None
    assert first["digest"] == second["digest"]


def test_a_second_writer_is_refused_and_a_dead_one_is_forgotten(workspace):
    program = (
        "import sys; from pathlib import Path; from pipelines.store import Workspace\n"
        "with Workspace(Path(sys.argv[1])).lock():\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(workspace.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkspaceError, match=rf"in use by another osn process \(pid {holder.pid}\)"), workspace.lock():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with workspace.lock():
        assert (workspace.folder / ".owner").read_text() == str(os.getpid())


def test_a_full_disk_is_one_clear_error(workspace):
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(WorkspaceError, match="is full: free some space"):
        workspace.make("frames", INGREDIENTS, fill)


def test_a_disk_that_is_full_beside_the_stages_is_the_same_error(workspace):
    with pytest.raises(WorkspaceError, match="is full: free some space"), workspace.lock():
        raise OSError(28, "No space left on device")
    with pytest.raises(WorkspaceError, match="not writable"), workspace.lock():
        raise PermissionError(13, "Permission denied", str(workspace.folder / "config.toml"))
    with pytest.raises(InputError, match="check its permissions"), workspace.lock():
        raise PermissionError(13, "Permission denied", "/elsewhere/video.mp4")
    with workspace.lock():
        pass


def test_a_reason_names_the_one_option_of_a_group(workspace):
    before = {"option export.meshing": {"cells": 8, "more": {"a": 1, "b": 2}}}
    workspace.make("export", before, lambda folder: (folder / "a").write_text("a"))
    verdict = workspace.check("export", {"option export.meshing": {"cells": 8, "more": {"a": 1, "b": 3}}})
    assert verdict == Verdict(False, "option export.meshing.more.b changed from 2 to 3")


def test_a_file_in_the_place_of_the_workspace(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="choose one with -w DIR"):
        Workspace(tmp_path / "file").create()


def test_input_digest_follows_the_content(workspace, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"a")
    before = workspace.input_digest(folder)
    assert workspace.input_digest(folder) == before
    (folder / "0.png").write_bytes(b"b!")
    assert workspace.input_digest(folder) != before


def test_a_workspace_among_the_images_is_no_part_of_them(tmp_path):
    """`cd images; osn preprocess .`: what the workspace gains must not look like another video."""
    (tmp_path / "0000.png").write_bytes(b"one")
    workspace = Workspace(tmp_path / "osn-work")
    workspace.create()
    before = workspace.input_digest(tmp_path)
    (tmp_path / "osn-work" / "frames").mkdir()
    (tmp_path / "osn-work" / "frames" / "0000.png").write_bytes(b"made")
    (tmp_path / ".DS_Store").write_bytes(b"of a file manager")
    assert workspace.input_digest(tmp_path) == before
    (tmp_path / "0001.png").write_bytes(b"two")
    assert workspace.input_digest(tmp_path) != before


def test_masks_that_lie_in_the_workspace_count(workspace):
    masks = workspace.folder / "segment" / "labels"
    masks.mkdir(parents=True)
    (masks / "0.png").write_bytes(b"one")
    before = workspace.input_digest(masks)
    (masks / "0.png").write_bytes(b"another")
    assert workspace.input_digest(masks) != before


def test_a_kill_before_the_manifest_is_named_leaves_no_file_behind(workspace):
    """Of a resumable result: what was left is no part of it."""

    def write(folder: Path) -> None:
        (folder / "a.txt").write_text("a")

    def killed(folder: Path) -> None:
        write(folder)
        (folder / ".manifest.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.make("train", INGREDIENTS, killed, resumable=True)
    workspace.make("train", INGREDIENTS, write, resumable=True)
    assert workspace.check("train", INGREDIENTS).hit
    assert set(workspace.manifest("train")["outputs"]) == {"a.txt"}


def test_input_digest_of_a_missing_file(workspace, tmp_path):
    with pytest.raises(WorkspaceError, match="no longer there"):
        workspace.input_digest(tmp_path / "gone.mp4")


def test_items_are_made_once_per_key(tmp_path):
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "mesh.ply").write_text("ply")

    cache = ItemCache(tmp_path / "items")
    first = cache.get("object_01", {"resolution": 64}, make)
    assert cache.get("object_01", {"resolution": 64}, make) == first
    assert cache.get("object_01", {"resolution": 128}, make) != first
    assert len(made) == 2
    assert (first / "mesh.ply").read_text() == "ply"


def test_a_failed_item_leaves_nothing(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        ItemCache(tmp_path).get("object_01", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_two_commands_that_make_the_same_item_both_get_it(tmp_path):
    """The viewer makes meshes beside an export: whoever comes second finds what the first one has made."""
    items = ItemCache(tmp_path)

    def late(folder):
        items.get("mesh", 1, lambda other: (other / "a").write_text("first"))
        (folder / "a").write_text("second")

    place = items.get("mesh", 1, late)
    assert (place / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
