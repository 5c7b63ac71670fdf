"""Model weights: what exists, where it is on this machine, and how to get it.

Nothing is downloaded unless `pull` is called. Weights are looked for at an explicit path, then in the folder that
OSN_WEIGHTS_DIR names, then in the user's cache. Every download is checked against its SHA-256 before it gets its name;
files whose hash their authors don't publish are trusted on first use, and their hash is recorded beside them.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from third_party.errors import UnavailableError, UnknownNameError
from third_party.published import PUBLISHED, Weights, WeightsFile

FOLDER_VARIABLE = "OSN_WEIGHTS_DIR"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60

Progress = Callable[[str, int, int], None]
"""Called as (file name, bytes so far, total bytes or 0 when unknown)."""


class Trust(StrEnum):
    """How sure one can be of a file's content."""

    PUBLISHED = "published"
    """The hash is the one in this registry."""
    FIRST_USE = "first-use"
    """The hash is the one recorded when the file was downloaded."""
    UNKNOWN = "unknown"
    """Nothing to compare with: no hash is published, and the file was not downloaded by `pull`."""


@dataclass(frozen=True)
class Status:
    """One line of `osn weights list`: `path` is None if the weights are not on this machine."""

    weights: Weights
    path: Path | None


def registry() -> dict[str, Weights]:
    """Every model that this program can use, by name."""
    return {entry.name: entry for entry in PUBLISHED}


def folders() -> list[Path]:
    """Where weights are looked for, in this order."""
    named = os.environ.get(FOLDER_VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [*([Path(named)] if named else []), cache / "osn" / "weights"]


def find(name: str, path: Path | None = None) -> Path:
    """The file (or folder, for a model of several files) of the weights `name`; `path` overrides the search.

    Raises UnavailableError: they are not there.
    """
    entry = _entry(name)
    if path is not None:
        if not path.exists():
            raise UnavailableError(
                f"{path} does not exist: give the {name} weights, or download them with osn weights pull {name}"
            )
        return path
    for folder in folders():
        if all(file.is_file() for file in entry.paths(folder)):
            return entry.place(folder)
    searched = " or ".join(str(folder) for folder in folders())
    raise UnavailableError(
        f"the {name} weights ({entry.purpose}) are not in {searched}: download them with osn weights pull {name}"
    )


def status() -> list[Status]:
    """Every entry of the registry and where it is on this machine."""
    lines = []
    for entry in PUBLISHED:
        places = [folder for folder in folders() if all(path.is_file() for path in entry.paths(folder))]
        lines.append(Status(entry, entry.place(places[0]) if places else None))
    return lines


def verify(name: str, path: Path | None = None) -> Trust:
    """Compare the hashes of weights on this machine with what is known of them: the least trust among their files.

    Raises UnavailableError: they are missing, or a hash is wrong.
    """
    entry = _entry(name)
    place = find(name, path)
    files = [place] if place.is_file() else [place / file.name for file in entry.files]
    levels = [_verify_file(name, file, on_disk) for file, on_disk in zip(entry.files, files, strict=True)]
    return max(levels, key=list(Trust).index)


def pull(name: str, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Download weights into `folder` (by default OSN_WEIGHTS_DIR or the user's cache) and check them.

    An interrupted download resumes where it stopped. A file gets its name only after its hash has been checked.
    Returns what `find` returns. Raises UnavailableError: the download failed, or the hash is wrong.
    """
    entry = _entry(name)
    folder = folder or folders()[0]
    for file, target in zip(entry.files, entry.paths(folder), strict=True):
        if target.is_file():
            _verify_file(name, file, target)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        _download(file, partial, progress or (lambda *_: None))
        digest = sha256_of(partial)
        if file.sha256 and not file.accepts(digest):
            partial.unlink()
            raise UnavailableError(
                f"{file.url} has SHA-256 {digest[:16]}…, expected {file.sha256[:16]}…: the download was discarded, "
                f"try again, or give the path of a file"
            )
        if not file.sha256:
            _record(target).write_text(digest + "\n", encoding="ascii")
        partial.replace(target)
    return entry.place(folder)


def sha256_of(path: Path) -> str:
    """Hash of a file, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _entry(name: str) -> Weights:
    entries = registry()
    if name not in entries:
        raise UnknownNameError(f"there are no weights named {name}: choose one of {', '.join(entries)}")
    return entries[name]


def _record(target: Path) -> Path:
    """Where the hash of a file without published hash is kept."""
    return target.with_name(target.name + ".sha256")


def _verify_file(name: str, file: WeightsFile, on_disk: Path) -> Trust:
    if not on_disk.is_file():
        raise UnavailableError(f"{on_disk} is missing: download the weights with osn weights pull {name}")
    digest = sha256_of(on_disk)
    if file.sha256:
        expected, fits, trust = file.sha256, file.accepts(digest), Trust.PUBLISHED
    elif _record(on_disk).is_file():
        expected = _record(on_disk).read_text(encoding="ascii").strip()
        fits, trust = digest == expected, Trust.FIRST_USE
    else:
        return Trust.UNKNOWN
    if not fits:
        raise UnavailableError(
            f"{on_disk} has SHA-256 {digest[:16]}…, expected {expected[:16]}…: delete it and run osn weights pull {name}"
        )
    return trust


def _download(file: WeightsFile, partial: Path, progress: Progress) -> None:
    """Fetch a file, or the rest of it where a hash will prove that the parts belong together."""
    if not file.sha256:
        partial.unlink(missing_ok=True)
    try:
        with _open_rest(file.url, partial) as response:
            done = partial.stat().st_size if partial.exists() else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length is not None else 0
            with partial.open("ab") as out:
                for chunk in _chunks(response):
                    out.write(chunk)
                    done += len(chunk)
                    progress(file.name, done, total)
    except (OSError, HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise UnavailableError(f"downloading {file.url} failed ({reason}): run the command again to resume") from error
    if total and done != total:
        raise UnavailableError(f"downloading {file.url} stopped at {done} of {total} bytes: run the command again to resume")


def _open_rest(url: str, partial: Path) -> HTTPResponse:
    """Answer with the bytes that `partial` lacks; `partial` is emptied when the server sends everything."""
    done = partial.stat().st_size if partial.exists() else 0
    if done:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"})
        try:
            response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
        else:
            starts_right = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            if response.status == HTTPStatus.PARTIAL_CONTENT and starts_right:
                return response
            response.close()
        partial.unlink()
    whole: HTTPResponse = urllib.request.urlopen(url, timeout=TIMEOUT_S)
    return whole


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk
