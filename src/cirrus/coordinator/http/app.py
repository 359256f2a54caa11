"""The three ASGI apps: for everybody on this machine, for the monitor, for jobs."""

from collections.abc import Collection
from typing import Final

from cirrus.coordinator.http.asgi import App
from cirrus.coordinator.http.job_listener import job_routes
from cirrus.coordinator.http.native import native_routes
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.page import page_routes
from cirrus.coordinator.http.seed import seed_routes
from cirrus.coordinator.http.seed_shapes import refusal

LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
"""The names under which this machine reaches itself. Any other in a Host header is refused."""


def main_app(coordinator: Coordinator, hosts: Collection[str] = LOOPBACK) -> App:
    """The seed's routes and /v1, /healthz, /metrics."""
    routes = [*seed_routes(coordinator), *native_routes(coordinator)]
    return App(routes, hosts, {b"/r/": refusal, b"/q/": refusal})


def monitor_app(coordinator: Coordinator, hosts: Collection[str] = LOOPBACK) -> App:
    """The page, and the same /v1 that it reads."""
    return App([*page_routes(), *native_routes(coordinator)], hosts)


def job_app(coordinator: Coordinator, gateway: str) -> App:
    """`gateway`: the address that jobs know us by."""
    return App(job_routes(coordinator), (gateway,), {b"/r/": refusal})
