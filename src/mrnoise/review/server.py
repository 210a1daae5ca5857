"""The server: on the loopback of this machine, for whoever knows the token."""

from __future__ import annotations

import errno
import hmac
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mrnoise.errors import InputError
from mrnoise.files.record import to_json
from mrnoise.result.noise_map import NoiseMap
from mrnoise.review.folder import Folder
from mrnoise.review.pages import message_page, review_page
from mrnoise.review.region import Source, answers, drawn

HOST = "127.0.0.1"
LARGEST_MESSAGE = 1 << 20  # bytes: a region of a slice of thousands of rows
SILENCE = 30.0  # seconds after which a client that says nothing is left
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Find = Callable[[str, NoiseMap], Iterator[str | Source]]


class ReviewServer(ThreadingHTTPServer):
    """Serves the maps of a folder, and nothing else, under ``url``.

    Whoever asks must know the token in the address, and must have asked for this host: pages of others that a browser
    shows at the same time can do neither.

    Parameters
    ----------
    folder
        Where the maps lie.
    find
        Name in the folder and map → what it was made of, after its steps in words; raises `Missing`.
    port
        0: any that is free.

    Raises
    ------
    InputError
        If the port is in use or not allowed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from mrnoise import noise_map, save
    >>> from mrnoise.reconstruction import Sense
    >>> from mrnoise.simulation import simulate
    >>> (path,) = save(noise_map(Sense(), simulate((16, 12), 4), n_samples=16), "head.h5")
    >>> with ReviewServer(Folder(Path(".")), find=lambda name, nm: iter(())) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share a port that is in use

    def __init__(self, folder: Folder, find: Find, port: int = 0) -> None:
        self.folder, self.find = folder, find
        self.token = secrets.token_urlsafe(24)
        # One region at a time: memory holds one linearisation. Pages do not wait for it.
        self.measuring, self.reading = threading.Lock(), threading.Lock()
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            raise InputError(
                "cannot listen on this port",
                expected="a free port of this machine, 1024 to 65535, or 0 for any",
                received=f"--port {port}, " + ("which is in use" if used else str(error)),
                remedy="Give another --port, or leave it out.",
            ) from error

    @property
    def hosts(self) -> tuple[str, ...]:
        """What this machine is called in an address."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever has gone away is no error."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: ReviewServer
    server_version, sys_version = "mrnoise", ""
    timeout = SILENCE

    def do_GET(self) -> None:
        """A page."""
        self._answer(self._page)

    def do_POST(self) -> None:
        """A region."""
        self._answer(self._region)

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # whoever asked has gone
        except Exception as error:  # the page says what the terminal does not show
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "This did not work", f"{type(error).__name__}: {error}")

    def _page(self) -> None:
        if (path := self._allowed()) is None:
            return None
        if path != "":
            return self._refuse(HTTPStatus.NOT_FOUND, "There is nothing of this name", "Maps are on the first page.")
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        try:
            with self.server.reading:
                page = self._map_page(asked)
        except InputError as error:
            return self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "This map cannot be shown", str(error))
        return self._send(HTTPStatus.OK, page)

    def _region(self) -> None:
        """One line of JSON a step, the last with the outcome."""
        if (path := self._allowed()) is None:
            return None
        maps = self.server.folder.maps()
        try:
            message = self._message()
            name = message.get("map")
            if path != "region" or not isinstance(name, str) or name not in maps:
                raise InputError(
                    "there is no such map",
                    expected="a map of the folder, and a region",
                    received=str(name)[:200],
                    remedy="Load the page again.",
                )
            with self.server.reading:
                nm = self.server.folder.read(maps[name])
            region = drawn(message, tuple(nm.image.shape))
        except InputError as error:
            return self._refuse(HTTPStatus.BAD_REQUEST, "This cannot be measured", str(error))
        self._head(HTTPStatus.OK, "application/x-ndjson")
        with self.server.measuring:
            for line in self._answers(name, nm, region):
                self.wfile.write(to_json(line).encode() + b"\n")
                self.wfile.flush()
        return None

    def _answers(self, name: str, nm: NoiseMap, region: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from answers(nm, region, self.server.find(name, nm))
        except Exception as error:  # of a reconstruction or its host, whatever it is
            yield {"missing": f"The reconstruction failed: {type(error).__name__}: {error}"}

    def _map_page(self, asked: dict[str, str]) -> str:
        folder = self.server.folder
        maps = folder.maps()
        if not maps:
            return message_page("No maps", "The folder has no maps any more.")
        name, second = asked.get("map") or next(iter(maps)), asked.get("second")
        for wanted in (name, second):
            if wanted and wanted not in maps:
                raise InputError(
                    "there is no such map",
                    expected=f"one of {', '.join(maps)}"[:500],
                    received=wanted[:200],
                    remedy="Choose one of the list.",
                )
        other = folder.read(maps[second]) if second else None
        return review_page(list(maps), name, folder.read(maps[name]), second or None, other)

    # -- requests --------------------------------------------------------------------------------------------

    def _allowed(self) -> str | None:
        """The path behind the token; ``None`` where the request was refused."""
        path = urlsplit(self.path).path.lstrip("/")
        token, _, rest = path.partition("/")
        origin = self.headers.get("Origin")
        own = origin is None or origin in [f"http://{host}" for host in self.server.hosts]
        if self.headers.get("Host") not in self.server.hosts or not own:
            self._refuse(HTTPStatus.FORBIDDEN, "Not from here", "Only pages of this server may ask it for maps.")
        elif not hmac.compare_digest(token.encode(), self.server.token.encode()):
            words = "The address holds a token, which mrnoise review prints anew whenever it starts. Open the address "
            words += "that is in its terminal now."
            self._refuse(HTTPStatus.FORBIDDEN, "The token of this address is not the right one", words)
        else:
            return rest
        return None

    def _message(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        try:
            if not length.isdecimal() or not 0 < int(length) <= LARGEST_MESSAGE:
                raise ValueError(f"{length or 'no'} bytes")
            found = json.loads(self.rfile.read(int(length)))
            if not isinstance(found, dict):
                raise ValueError(f"a {type(found).__name__}")
        except (ValueError, RecursionError) as error:
            raise InputError(
                "cannot read the message",
                expected=f"a JSON object of at most {LARGEST_MESSAGE} bytes",
                received=str(error)[:200],
                remedy="Draw the region on the page.",
            ) from error
        return found

    # -- answers ---------------------------------------------------------------------------------------------

    def _refuse(self, status: HTTPStatus, title: str, words: str) -> None:
        self._send(status, message_page(title, words))

    def _send(self, status: HTTPStatus, page: str) -> None:
        content = page.encode("utf-8", "backslashreplace")
        self._head(status, "text/html; charset=utf-8", len(content))
        self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold the token."""
