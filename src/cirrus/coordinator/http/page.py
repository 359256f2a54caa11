"""The monitor's plain page: three files, which read /v1 like any other client."""

from importlib.resources import files
from typing import Final

from cirrus.coordinator.http.message import Answer, Full, Headers, Request
from cirrus.coordinator.http.router import Handler, Route

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    b" connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SHUT: Final[Headers] = (
    (b"content-security-policy", POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
FILES: Final = {
    "/": ("monitor.html", b"text/html; charset=utf-8"),
    "/monitor.css": ("monitor.css", b"text/css; charset=utf-8"),
    "/monitor.js": ("monitor.js", b"text/javascript; charset=utf-8"),
}


def page_routes() -> list[Route]:
    return [Route("GET", path, _shown(*file)) for path, file in FILES.items()]


def _shown(name: str, media_type: bytes) -> Handler:
    folder = files("cirrus.coordinator.http").joinpath("static")

    async def show(_: Request) -> Answer:
        return Full(folder.joinpath(name).read_bytes(), media_type=media_type, headers=SHUT)

    return show
