"""The explorer's server: this machine alone, one model call at a time, nothing that a request makes grow."""

import asyncio
import base64
import hashlib
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from genzoo.errors import UserError
from genzoo.explore.session import Session

HOST = "127.0.0.1"
MAX_BODY, MAX_WAITING, BODY_SECONDS = 1 << 20, 16, 5.0
PAGE = Path(__file__).parent / "page"
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Refused(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Server:
    """Serves a session at `url`, on a free port, to whoever has the token in it."""

    def __init__(self, session: Session):
        self.session, self.token = session, secrets.token_urlsafe(24)
        # With its protocol named, asyncio sends what is written at once: 10 ms a picture, and not 50.
        self.socket = socket.socket(proto=socket.IPPROTO_TCP)
        self.socket.bind((HOST, 0))
        self.socket.listen(128)  # whoever opens the address before the server runs waits, and is not refused
        self.port = self.socket.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/?token={self.token}"
        self._hosts = {f"{HOST}:{self.port}", f"localhost:{self.port}"}
        self._num_waiting = 0
        self._worker = ThreadPoolExecutor(1)
        about = self.session.about()
        routes = [
            Route("/", self._answer(lambda request, body: self._page())),
            Route("/about", self._answer(lambda request, body: JSONResponse(about))),
            Route("/images", self._answer(lambda request, body: _bytes(self.session.thumbnails()))),
            Route("/decode", self._answer(lambda request, body: _bytes(self.session.decode(body))), methods=["POST"]),
            Route(
                "/encode", self._answer(lambda request, body: _bytes(self.session.encode(_number(request, "image"))))
            ),
            Route("/sample", self._answer(self._sample)),
            Route("/npz", self._answer(lambda request, body: _bytes(self.session.npz(body))), methods=["POST"]),
        ]
        config = uvicorn.Config(Starlette(routes=routes), log_level="error", access_log=False, lifespan="off")
        self._uvicorn = uvicorn.Server(config)

    def run(self) -> None:
        """Until Ctrl-C, or `stop` from another thread."""
        self._uvicorn.run(sockets=[self.socket])

    def stop(self) -> None:
        self._uvicorn.should_exit = True

    def _answer(self, work: Callable[[Request, bytes], Response]):
        """Work for one request, once it may be answered: model calls wait for each other in a short queue."""

        async def answer(request: Request) -> Response:
            try:
                self._refuse_strangers(request)
                if self._num_waiting >= MAX_WAITING:
                    raise Refused(503, "too many requests at once")
                self._num_waiting += 1
                try:
                    body = await asyncio.wait_for(_body(request), BODY_SECONDS)
                    response = await asyncio.get_running_loop().run_in_executor(self._worker, work, request, body)
                finally:
                    self._num_waiting -= 1
            except Refused as refused:
                response = PlainTextResponse(str(refused), refused.status)
            except TimeoutError:
                response = PlainTextResponse("the request did not come to its end", 408)
            except UserError as error:
                response = PlainTextResponse(str(error), 400)
            response.headers.update(HEADERS)
            return response

        return answer

    def _refuse_strangers(self, request: Request) -> None:
        """Other sites reach this server through the user's browser; Host and Origin tell, and they have no token."""
        if request.headers.get("host") not in self._hosts:
            raise Refused(403, "this page is served to this machine alone")
        origin = request.headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            raise Refused(403, "requests of other pages are not answered")
        token = request.headers.get("x-token") or request.query_params.get("token") or ""
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise Refused(403, "the token is missing: open the address that genzoo explore printed")

    def _page(self) -> Response:
        html, style, script = ((PAGE / f"explore.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
        text = html.replace("/*style*/", style).replace("/*script*/", script)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = (
            "default-src 'none'; connect-src 'self'; img-src data: blob:; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})

    def _sample(self, request: Request, body: bytes) -> Response:
        return _bytes(self.session.sample(request.query_params.get("sampler", ""), _number(request, "seed")))


async def _body(request: Request) -> bytes:
    """At most MAX_BODY bytes, of which no more are ever held."""
    if int(request.headers.get("content-length") or 0) > MAX_BODY:
        raise Refused(413, f"a request holds at most {MAX_BODY} bytes")
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > MAX_BODY:
            raise Refused(413, f"a request holds at most {MAX_BODY} bytes")
        body += chunk
    return bytes(body)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UserError(f"{name} is a number from 0 on")
    return int(text)


def _bytes(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")
