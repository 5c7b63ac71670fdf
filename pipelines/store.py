"""The workspace on disk: one folder per result, each with a manifest that says from what it was made.

A result is reused when its ingredients (code version, options, digests of inputs) are those of the manifest and its files
are as the manifest lists them. It is made in `.partial/` and moved into place whole: a kill at any moment leaves the old
result or the new one. One process writes at a time.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import InputError, WorkspaceError
from pipelines.json_files import read_json, write_json
from pipelines.stage import ItemCache, digest

MANIFEST = "manifest.json"
Ingredients = Mapping[str, Any]
"""What a result is made from, under names for people: `option frames.fps`, `input video`, `code version`."""


@dataclass(frozen=True)
class Verdict:
    """Whether a stored result can be reused; if not, why, in words for people."""

    hit: bool
    reason: str


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, f".{MANIFEST}"))


class Workspace:
    """Results of one video, by place (`frames`, `sfm`, `export/mesh`, ...)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _partial(self) -> Path:
        return self.folder / ".partial"

    def place(self, name: str) -> Path:
        return self.folder / name

    def items(self, name: str) -> ItemCache:
        return ItemCache(self.folder / ".items" / name)

    def create(self) -> None:
        """Make the folder.

        Raises WorkspaceError: the place is a file, or not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"{self.folder} cannot be a workspace ({error.strerror}): choose one with -w DIR") from None
        if not os.access(self.folder, os.W_OK):
            raise WorkspaceError(f"{self.folder} is not writable: choose another workspace with -w DIR")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for writing; the operating system lets go of it when the process dies.

        Raises WorkspaceError: another process holds it, or what is written meanwhile finds a full or unwritable disk.
        """
        from filelock import FileLock, Timeout

        held = FileLock(self.folder / ".lock")
        try:
            held.acquire(timeout=0)
        except Timeout:
            owner = self._owner()
            raise WorkspaceError(
                f"{self.folder} is in use by another osn process{owner}: wait for it, or choose another with -w DIR"
            ) from None
        except OSError as error:
            raise WorkspaceError(f"{self.folder} cannot be locked ({error.strerror}): is it writable?") from None
        try:
            (self.folder / ".owner").write_text(str(os.getpid()), encoding="utf-8")
            yield
        except OSError as error:
            self._translated(error)
            raise
        finally:
            held.release()

    def _owner(self) -> str:
        with contextlib.suppress(OSError):
            return f" (pid {(self.folder / '.owner').read_text(encoding='utf-8')})"
        return ""

    def manifest(self, name: str) -> dict[str, Any] | None:
        """The manifest of a result, or None when there is no readable one."""
        with contextlib.suppress(WorkspaceError):
            stored = read_json(self.place(name) / MANIFEST)
            if isinstance(stored, dict) and {"ingredients", "outputs", "digest"} <= stored.keys():
                return stored
        return None

    def check(self, name: str, ingredients: Ingredients, *, thorough: bool = False) -> Verdict:
        """Whether the stored result is the one that these ingredients make.

        thorough: compare contents also where size and time stamp say that a file was not touched.
        """
        self._adopt(name, digest(dict(ingredients)))
        if not self.place(name).is_dir():
            return Verdict(False, "not made yet")
        manifest = self.manifest(name)
        if manifest is None:
            return Verdict(False, "its manifest is missing or damaged")
        stored = manifest["ingredients"]
        fresh = json.loads(json.dumps(dict(ingredients), default=str))
        changes = [_change(key, stored, fresh) for key in sorted({*stored, *fresh}) if stored.get(key) != fresh.get(key)]
        if changes:
            return Verdict(False, "; ".join(changes[:3]) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else ""))
        damaged = self._damaged(name, manifest, thorough)
        return Verdict(False, f"{damaged} is missing or damaged") if damaged else Verdict(True, "up to date")

    def _damaged(self, name: str, manifest: dict[str, Any], thorough: bool) -> str | None:
        """The first file of a result that is not as its manifest says."""
        for relative, (size, mtime_ns, content) in manifest["outputs"].items():
            path = self.place(name) / relative
            try:
                found = path.stat()
            except OSError:
                return f"{name}/{relative}"
            untouched = found.st_size == size and found.st_mtime_ns == mtime_ns
            if (thorough or not untouched) and (found.st_size != size or file_digest(path) != content):
                return f"{name}/{relative}"
        return None

    def make(self, name: str, ingredients: Ingredients, run: Callable[[Path], None], *, resumable: bool = False) -> None:
        """Make a result by `run(folder)` and move it into place.

        resumable: the folder may hold what an interrupted run with the same ingredients left.
        """
        key = digest(dict(ingredients))
        partial = self._partial_of(name, key)
        if not resumable:
            shutil.rmtree(partial, ignore_errors=True)
        started = time.monotonic()
        try:
            partial.mkdir(parents=True, exist_ok=True)
            run(partial)
            outputs = {}
            for path in _files(partial):
                found = path.stat()
                outputs[path.relative_to(partial).as_posix()] = (found.st_size, found.st_mtime_ns, file_digest(path))
            manifest = {
                "result": name,
                "ingredients": dict(ingredients),
                "digest": digest({path: content for path, (_, _, content) in outputs.items()}),
                "wall_s": round(time.monotonic() - started, 3),
                "outputs": outputs,
            }
            temporary = partial / f".{MANIFEST}"
            temporary.write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
            temporary.rename(partial / MANIFEST)
        except OSError as error:
            self._translated(error)
            raise
        self._adopt(name, key)

    def _translated(self, error: OSError) -> None:
        """Raises WorkspaceError where the disk is full or something is not writable, InputError for files from elsewhere."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkspaceError(f"the disk of {self.folder} is full: free some space and run the command again") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            named = Path(error.filename).resolve() if isinstance(error.filename, str | os.PathLike) else self.folder
            if not named.is_relative_to(self.folder.resolve()):
                raise InputError(f"{error.filename} cannot be used ({error.strerror}): check its permissions") from None
            raise WorkspaceError(f"{error.filename or self.folder} is not writable: choose another with -w DIR") from None

    def _partial_of(self, name: str, key: str) -> Path:
        return self._partial / f"{name.replace('/', '__')}-{key}"

    def _adopt(self, name: str, key: str) -> None:
        """Move a finished result into place (also one that a kill left finished but not moved), and drop older leftovers."""
        partial = self._partial_of(name, key)
        if not (partial / MANIFEST).is_file():
            return
        place = self.place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            outdated = self._partial / f"outdated-{place.name}-{os.getpid()}"
            shutil.rmtree(outdated, ignore_errors=True)
            place.rename(outdated)
        partial.rename(place)
        for leftover in self._partial.iterdir():
            if leftover.name.startswith((f"{name.replace('/', '__')}-", "outdated-")):
                shutil.rmtree(leftover, ignore_errors=True)

    def input_digest(self, path: Path) -> str:
        """Digest of a file or folder outside the workspace, remembered by size and time stamp.

        Hidden files of a folder don't count, nor does the workspace where it lies in there.
        Raises WorkspaceError: it is gone.
        """
        memo_path = self.folder / ".digests.json"
        memo: dict[str, Any] = {}
        with contextlib.suppress(WorkspaceError):
            memo = read_json(memo_path)
        before = dict(memo)
        if path.is_dir():
            counted = [p for p in _files(path) if not p.name.startswith(".")]
            own = self.folder.resolve()
            if own.is_relative_to(path.resolve()) and own != path.resolve():
                counted = [p for p in counted if not p.resolve().is_relative_to(own)]
            found = digest({p.relative_to(path).as_posix(): _remembered(p, memo) for p in counted})
        else:
            found = _remembered(path, memo)
        if memo != before:
            with contextlib.suppress(OSError):
                write_json(memo_path, memo)
        return found


def _remembered(path: Path, memo: dict[str, Any]) -> str:
    """Digest of a file, from the memo where it was not touched since; else the memo learns it.

    Raises WorkspaceError: it is gone.
    """
    try:
        found = path.stat()
    except OSError:
        raise WorkspaceError(f"{path} is no longer there: give it again, or put it back") from None
    stamp, name = [found.st_size, found.st_mtime_ns], str(path.resolve())
    known = memo.get(name)
    if not known or known[:2] != stamp:
        memo[name] = [*stamp, file_digest(path)]
    return str(memo[name][2])


def _change(key: str, stored: Ingredients, fresh: Ingredients) -> str:
    if key.startswith("input"):
        return f"{key} changed"
    before, after = stored.get(key), fresh.get(key)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
        return _change(f"{key}.{name}", {f"{key}.{name}": before.get(name)}, {f"{key}.{name}": after.get(name)})
    return f"{key} changed from {before} to {after}"
