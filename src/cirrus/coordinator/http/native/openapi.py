"""The OpenAPI 3.1 document of /v1, made from the routes and the types that answer them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

import cirrus
from cirrus.coordinator.http.message import Answer, Full, Request, encode_json
from cirrus.coordinator.http.posting import KEY, NAME
from cirrus.coordinator.http.router import Route

REF: Final = "#/components/schemas/{name}"
EVERYWHERE: Final = (400, 403, 405, 415, 421, 500, 503)
WITH_BODY: Final = (409, 413, 422, 507)
"""What every call, and every call that has a body, may answer."""
PARAMETERS: Final[dict[str, dict[str, object]]] = {
    "job": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "key": {"type": "string", **KEY},
    "kind": {"enum": ["event", "event_set", "rule"]},
    "name": {"type": "string", **NAME},
    "seq": {"type": "integer", "minimum": 1},
}

Schema = dict[str, Any]


class Problem(Struct, frozen=True):
    """`code` is for programs and never changes, `message` for people; `field` says where."""

    code: str
    message: str
    field: str


class Refusal(Struct, frozen=True):
    error: Problem


def openapi_route(routes: Sequence[Route]) -> Route:
    document = b""

    async def show(_: Request) -> Answer:
        # Made when it is first asked for: most coordinators never are.
        nonlocal document
        document = document or encode_json(openapi([*routes, route]))
        return Full(document)

    summary = "This document."
    route = Route("GET", "/v1/openapi.json", show, summary, answer=(dict[str, object],))
    return route


def openapi(routes: Iterable[Route]) -> Schema:
    routes = list(routes)
    schemas, components = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        path = route.path.replace("...}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Cirrus",
            "version": cirrus.__version__,
            "description": "Events, event sets, rules and jobs. Lists come in pages: `next` of"
            " one is where the following one begins. Times are seconds since 1970, UTC.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, schemas: dict[object, Schema]) -> Schema:
    responses: Schema = {"200": _answer(route, schemas)}
    statuses = {*EVERYWHERE, *route.refusals, *(WITH_BODY if route.body else ())}
    if route.method != "GET":
        statuses |= {413, 507}
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": "Refused",
            "content": {"application/json": {"schema": schemas[Refusal]}},
        }
    operation: Schema = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": responses,
    }
    if route.body:
        schema = _one_of([schemas[kind] for kind in route.body])
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _answer(route: Route, schemas: dict[object, Schema]) -> Schema:
    schema: Schema = {"type": "string"}
    if route.answer:
        schema = _one_of([schemas[kind] for kind in route.answer])
    return {"description": "Done", "content": {route.media_type: {"schema": schema}}}


def _operation_id(route: Route) -> str:
    words = [part.strip("{}.") for part in route.path.split("/") if part not in ("", "v1")]
    return "_".join([route.method.lower(), *words]).replace(".", "_")


def _path_parameters(route: Route) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}
        for name in route.names
    ]


def _query_parameters(route: Route) -> list[Schema]:
    if route.query is None:
        return []
    (schema,), components = msgspec.json.schema_components([route.query], ref_template=REF)
    properties = components[schema["$ref"].rpartition("/")[2]]["properties"]
    return [{"name": name, "in": "query", "schema": one} for name, one in properties.items()]


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _schemas(routes: list[Route]) -> tuple[dict[object, Schema], Schema]:
    kinds = dict.fromkeys(kind for route in routes for kind in (*route.body, *route.answer))
    every = [*kinds, Refusal]
    found, components = msgspec.json.schema_components(
        every, schema_hook=_any_value, ref_template=REF
    )
    return dict(zip(every, found, strict=True)), components


def _any_value(kind: type) -> Schema:
    if kind in (object, Raw):
        return {"description": "Any JSON value."}
    raise NotImplementedError
