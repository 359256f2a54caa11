"""What the seed's answers look like."""

from collections.abc import Sequence
from typing import Literal

from cirrus.coordinator.http.message import Full, answer
from cirrus.coordinator.http.posting import SeedSent
from cirrus.core.decision import Occurrence
from cirrus.core.documents import seed_form
from cirrus.core.names import clip
from cirrus.store.records import Definition, SeedEvent, SeedState

Note = Literal["dispatch", "start", "fail", "success", "end"]


def refusal(code: str, message: str, field: str) -> dict[str, object]:
    return {"msg": message, "status": "FAIL", "code": code, "field": field}


def done(message: str) -> Full:
    return answer({"msg": message, "status": "OK"})


def triggered(occurrences: Sequence[Occurrence]) -> Full:
    """Each rule that it fired; a repeat of what was accepted before fires nothing."""
    messages = [
        {"msg": f"rule '{verdict.rule}' triggered by '{one.event}'"}
        for one in occurrences
        for verdict in one.verdicts
        if verdict.verdict == "fired"
    ]
    shape: dict[str, object] = {
        "msgs": messages or [{"msg": "no rule is triggered"}],
        "status": "OK",
    }
    for one in occurrences:
        if one.duplicate:
            shape |= {"duplicate": True, "seq": one.seq}
    return answer(shape)


def note_of(sent: SeedSent) -> Note | None:
    """A worker's own word on its rule, if this is one."""
    match sent.action:
        case "dispatch" | "start" | "fail" | "success" | "end" as note:
            return note
        case _:
            return None


def noted(rule: str, note: Note) -> Full:
    return answer({"msgs": [{"msg": f"rule '{rule}' state '{note}' recorded"}], "status": "OK"})


def wrong_action(sent: SeedSent) -> Full:
    message = (
        f"wrong action {clip(str(sent.action))}: an event takes trigger; a rule takes dispatch,"
        " start, fail, success and end"
    )
    shape: dict[str, object] = {
        "msgs": [{"msg": "wrong action"}],
        **refusal("wrong_action", message, "action"),
    }
    return answer(shape, 400)


def definition(found: Definition) -> dict[str, object]:
    payload = seed_form(bytes(found.document))
    return {found.kind: found.name, "payload": payload, "ts": found.time}


def event_entry(found: SeedEvent) -> dict[str, object]:
    payload: dict[str, object] = {"action": "trigger", "force": "true" if found.force else "false"}
    if bytes(found.data) != b"{}":
        payload["data"] = found.data
    if found.id is not None:
        payload |= {"source": found.source, "id": found.id}
    return {
        "event": found.event,
        "payload": payload,
        "ts": found.received,
        "key": found.key,
        "seq": found.seq,
    }


def state_entries(found: SeedState) -> list[dict[str, object]]:
    return [
        {"rule": found.rule, "payload": {"state": state}, "ts": found.time}
        for state in found.states
    ]
