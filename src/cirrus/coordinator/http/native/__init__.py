"""The native API, /v1: one table of routes, from which its OpenAPI document is made too."""

from cirrus.coordinator.http.native.definitions import definition_routes
from cirrus.coordinator.http.native.feed import feed_routes
from cirrus.coordinator.http.native.jobs import job_routes
from cirrus.coordinator.http.native.keys import key_routes
from cirrus.coordinator.http.native.logs import log_routes
from cirrus.coordinator.http.native.occurrences import occurrence_routes
from cirrus.coordinator.http.native.openapi import openapi_route
from cirrus.coordinator.http.native.system import system_routes
from cirrus.coordinator.http.needs import Coordinator
from cirrus.coordinator.http.router import Route


def native_routes(coordinator: Coordinator) -> list[Route]:
    routes = [
        *system_routes(coordinator),
        *definition_routes(coordinator),
        *occurrence_routes(coordinator),
        *key_routes(coordinator),
        *job_routes(coordinator),
        *log_routes(coordinator),
        *feed_routes(coordinator),
    ]
    return [*routes, openapi_route(routes)]
