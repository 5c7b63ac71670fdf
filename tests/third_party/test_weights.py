"""Finding, fetching and checking weights, against a server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from third_party import weights
from third_party.errors import UnavailableError
from third_party.published import PUBLISHED, Weights, WeightsFile
from third_party.weights import Trust, find, folders, pull, registry, status, verify

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does next, and the Range headers that it was sent."""

    url: str
    ranges_work: bool = True
    stop_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            told.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and told.ranges_work else 0
            if self.path == "/missing":
                self.send_error(404)
                return
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : told.stop_after])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield told
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no other place."""
    monkeypatch.delenv("OSN_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "osn" / "weights"


def publish(monkeypatch: pytest.MonkeyPatch, *files: WeightsFile) -> None:
    monkeypatch.setattr(weights, "PUBLISHED", (Weights("net", "testing", "Apache-2.0", 1, files),))


def publish_one(monkeypatch: pytest.MonkeyPatch, server: Server, sha256: str = SHA256, path: str = "/net.pth") -> None:
    publish(monkeypatch, WeightsFile("net.pth", server.url + path, sha256))


def test_pull_downloads_checks_and_is_then_found(server, folder, monkeypatch):
    publish_one(monkeypatch, server)
    reports = []
    path = pull("net", progress=lambda *report: reports.append(report))
    assert path == folder / "net.pth" == find("net")
    assert path.read_bytes() == CONTENT
    assert reports[-1] == ("net.pth", len(CONTENT), len(CONTENT))
    assert verify("net") is Trust.PUBLISHED
    assert [line.path for line in status()] == [path]
    assert [entry.name for entry in folder.iterdir()] == ["net.pth"]


def test_a_second_pull_asks_the_server_nothing(server, folder, monkeypatch):
    publish_one(monkeypatch, server)
    pull("net")
    pull("net")
    assert server.ranges == [None]


def test_an_interrupted_pull_goes_on_where_it_stopped(server, folder, monkeypatch):
    publish_one(monkeypatch, server)
    server.stop_after = 3000
    with pytest.raises(UnavailableError, match=r"stopped at 3000 of 10240 bytes: run the command again"):
        pull("net")
    assert (folder / "net.pth.part").stat().st_size == 3000
    with pytest.raises(UnavailableError, match=r"osn weights pull net"):
        find("net")
    server.stop_after = None
    assert pull("net").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000-"]


def test_a_server_without_ranges_sends_everything_again(server, folder, monkeypatch):
    publish_one(monkeypatch, server)
    folder.mkdir(parents=True)
    (folder / "net.pth.part").write_bytes(CONTENT[:3000])
    server.ranges_work = False
    assert pull("net").read_bytes() == CONTENT
    assert server.ranges == ["bytes=3000-", None]


def test_a_part_that_is_longer_than_the_file_is_fetched_again(server, folder, monkeypatch):
    publish_one(monkeypatch, server)
    folder.mkdir(parents=True)
    (folder / "net.pth.part").write_bytes(CONTENT + b"more")
    assert pull("net").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_wrong_hash_is_discarded(server, folder, monkeypatch):
    publish_one(monkeypatch, server, sha256="0" * 64)
    with pytest.raises(UnavailableError, match=rf"has SHA-256 {SHA256[:16]}…, expected 0{{16}}…"):
        pull("net")
    assert list(folder.iterdir()) == []


def test_a_missing_page_is_one_line(server, folder, monkeypatch):
    publish_one(monkeypatch, server, path="/missing")
    with pytest.raises(
        UnavailableError, match=r"downloading http://127\.0\.0\.1.*/missing failed \(HTTP Error 404: Not Found\)"
    ):
        pull("net")


def test_files_without_published_hash_are_trusted_on_first_use(server, folder, monkeypatch):
    publish(monkeypatch, WeightsFile("config.json", server.url + "/a"), WeightsFile("model.safetensors", server.url + "/b"))
    folder.joinpath("net").mkdir(parents=True)
    # Without a hash nothing would prove that a part belongs to the same file, so it is not continued.
    (folder / "net" / "model.safetensors.part").write_bytes(b"other")
    assert pull("net") == folder / "net" == find("net")
    assert server.ranges == [None, None]
    assert verify("net") is Trust.FIRST_USE
    (folder / "net" / "config.json").write_bytes(b"changed")
    with pytest.raises(UnavailableError, match=r"config\.json has SHA-256 .* delete it and run osn weights pull net"):
        verify("net")
    (folder / "net" / "config.json.sha256").unlink()
    assert verify("net") is Trust.UNKNOWN
    (folder / "net" / "config.json").unlink()
    with pytest.raises(UnavailableError, match="osn weights pull net"):
        find("net")


def test_lookup_order_is_explicit_path_then_variable_then_cache(folder, tmp_path, monkeypatch):
    publish(monkeypatch, WeightsFile("net.pth", "http://127.0.0.1/none", SHA256))
    mine, named = tmp_path / "mine.pth", tmp_path / "named"
    with pytest.raises(
        UnavailableError, match=r"the net weights \(testing\) are not in .*weights: download them with osn weights pull"
    ):
        find("net")
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(CONTENT)
    assert find("net") == folder / "net.pth"
    monkeypatch.setenv("OSN_WEIGHTS_DIR", str(named))
    assert folders() == [named, folder]
    assert find("net") == folder / "net.pth"
    named.mkdir()
    (named / "net.pth").write_bytes(CONTENT)
    assert find("net") == named / "net.pth"
    mine.write_bytes(CONTENT)
    assert find("net", mine) == mine and verify("net", mine) is Trust.PUBLISHED
    with pytest.raises(UnavailableError, match=r"absent\.pth does not exist"):
        find("net", tmp_path / "absent.pth")


def test_a_damaged_file_does_not_verify(folder, tmp_path, monkeypatch):
    publish(monkeypatch, WeightsFile("net.pth", "http://127.0.0.1/none", SHA256))
    (tmp_path / "net.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(UnavailableError, match=rf"net\.pth has SHA-256 .* expected {SHA256[:16]}"):
        verify("net", tmp_path / "net.pth")


def test_another_published_copy_also_verifies(shared_data):
    path = shared_data / "weights" / "raft-small.pth"
    if not path.is_file():
        pytest.skip("the authors' raft-small checkpoint is not on this machine")
    assert verify("raft-small", path) is Trust.PUBLISHED


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        UnavailableError, match=r"there are no weights named raft: choose one of raft-small, raft-large, sam-vit-b"
    ):
        find("raft")


def test_the_table_is_complete_and_agrees_with_the_hashes_in_file_names():
    assert len(registry()) == len(PUBLISHED)
    for entry in PUBLISHED:
        assert entry.licence in {"Apache-2.0", "BSD-3-Clause", "MIT"} and entry.purpose and entry.size_mb > 0
        for file in entry.files:
            assert file.url.startswith("https://")
            assert all(len(digest) == 64 for digest in (file.sha256, *file.also_sha256) if digest)
            if file.url.startswith("https://download.pytorch.org/"):
                assert file.sha256.startswith(file.url.removesuffix(".pth").rsplit("-", 1)[1])
