"""The annotation page's own HTTP server: the standard library's, on this machine only.

    GET  /                       the page
    GET  /api/start              video, automatic objects, saved prompts
    GET  /api/frames/7           frame 7 as PNG
    POST /api/labels/7           prompts -> label map of frame 7 as a palette PNG
    POST /api/clip               prompts -> starts following them through the clip
    GET  /api/clip               how far that is
    POST /api/save               prompts -> written to the prompts file

Errors come as {"error": "..."} with status 400, 404 or 403. Requests must name this machine as their host and come from the
page itself, so that no other page in the browser can reach the server.
"""

import json
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.annotate.desk import Desk, overlay_png
from pipelines.errors import OsnError, WorkspaceError

FILES = {
    "/": ("annotate.html", "text/html; charset=utf-8"),
    "/annotate.js": ("annotate.js", "text/javascript; charset=utf-8"),
    "/annotate.css": ("annotate.css", "text/css; charset=utf-8"),
}
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_REQUEST_BYTES = 8_000_000
POLICY = "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


class AnnotateServer(ThreadingHTTPServer):
    """Serves one desk."""

    daemon_threads = True

    def __init__(self, desk: Desk, *, host: str, port: int) -> None:
        """Raises WorkspaceError: the port is taken."""
        self.desk = desk
        self.host = host
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise WorkspaceError(
                f"port {port} of {host} cannot be used ({error.strerror}): choose another with --port"
            ) from None

    @property
    def url(self) -> str:
        host = socket.gethostname() if self.listens_everywhere else self.host
        return f"http://{host}:{self.server_address[1]}"

    @property
    def listens_everywhere(self) -> bool:
        return self.host in ("0.0.0.0", "::")

    def answers_to(self, host: str | None) -> bool:
        """Whether a page of this name is ours. Names that we don't know may be another site's that points here."""
        if host in LOCAL_HOSTS | {self.host}:
            return True
        return self.listens_everywhere and host is not None and (host == socket.gethostname().lower() or _is_address(host))


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: AnnotateServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nobody's business."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if not self._allowed():
            return
        if path in FILES:
            name, kind = FILES[path]
            self._send((Path(__file__).parent / name).read_bytes(), kind)
        elif path == "/api/start":
            self._answer(lambda: self.server.desk.described())
        elif path == "/api/clip":
            self._answer(lambda: self.server.desk.clip.described() if self.server.desk.clip else {})
        elif (t := _frame_of(path, "/api/frames/")) is not None and t < self.server.desk.video.n_frames:
            self._send(self.server.desk.video.path(t).read_bytes(), "image/png")
        else:
            self._error(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")

    def do_POST(self) -> None:
        path, desk = urlsplit(self.path).path, self.server.desk
        if not self._allowed():
            return None
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MAX_REQUEST_BYTES:
            self.close_connection = True
            return self._error(HTTPStatus.BAD_REQUEST, f"a request of {length} bytes, expected 1 to {MAX_REQUEST_BYTES}")
        body = self.rfile.read(length)
        if (t := _frame_of(path, "/api/labels/")) is not None:
            return self._answer(lambda: overlay_png(desk.frame_labels(self._prompts(body), t)))
        if path == "/api/clip":
            return self._answer(lambda: desk.follow(self._prompts(body)).described())
        if path == "/api/save":
            return self._answer(lambda: {"saved": str(desk.save(self._prompts(body)))})
        return self._error(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")

    def _prompts(self, body: bytes) -> Any:
        return self.server.desk.parsed(json.loads(body))

    def _allowed(self) -> bool:
        """Only the page itself, under this machine's name."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        same = origin is None or urlsplit(origin).netloc == self.headers.get("Host")
        if self.server.answers_to(host) and same:
            return True
        self.close_connection = True
        self._error(HTTPStatus.FORBIDDEN, "this server talks to its own page only")
        return False

    def _answer(self, make: Any) -> None:
        """Send what `make` returns: bytes as PNG, anything else as JSON; a user's error as status 400."""
        try:
            content = make()
        except (OsnError, ValueError) as error:
            return self._error(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            return self._error(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error.filename or 'a file'}: {error.strerror}")
        if isinstance(content, bytes):
            return self._send(content, "image/png")
        return self._send(json.dumps(content).encode(), "application/json")

    def _error(self, status: HTTPStatus, message: str) -> None:
        self._send(json.dumps({"error": message}).encode(), "application/json", status=status)

    def _send(self, content: bytes, kind: str, *, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # The next video at this port has the same addresses.
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)


def _is_address(host: str) -> bool:
    """Numbers, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _frame_of(path: str, prefix: str) -> int | None:
    """The frame number at the end of a path."""
    number = path.removeprefix(prefix)
    return int(number) if path.startswith(prefix) and number.isdecimal() and len(number) < 10 else None
