"""Schema: all messages in words that other languages read, JSON Schema 2020-12 and AsyncAPI 3.0.0."""

from inspect import cleandoc
from typing import Final

import msgspec

from . import feedback
from .feedback import Feedback
from .request import EARLIEST_AT, REASONS, Request
from .verdict import Verdict

CONTRACT: Final = "1.0.0"
"""Version of all messages together. A new optional field raises the second number, anything else the first."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def request_schema() -> dict[str, object]:
    """JSON Schema of a message of `requests`."""
    return _schema(Request, "Request")


def verdict_schema() -> dict[str, object]:
    """JSON Schema of a message of `enforcement`, other than null."""
    return _schema(Verdict, "Verdict")


def feedback_schema() -> dict[str, object]:
    """JSON Schema of a message of `feedback`."""
    return _schema(Feedback, "Feedback")


def asyncapi(prefix: str = "stillwatch.") -> dict[str, object]:
    """The AsyncAPI document of the detector: its topics, their keys and messages. `prefix` begins every topic."""
    components = _components("#/components/schemas/{name}", Request, Verdict, Feedback)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stillwatch",
            "version": CONTRACT,
            "description": "Requests to an LLM API in, verdicts about its accounts out.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "requests": _channel(
                prefix,
                "requests",
                "Every request the LLM API served, keyed by account, so that one account's stay in order.",
                "delete",
                "request",
            ),
            "enforcement": _channel(
                prefix,
                "enforcement",
                "The newest verdict of each subject. No verdict, an expired one or a silent topic: allow.",
                "compact",
                "verdict",
                "lifted",
            ),
            "feedback": _channel(
                prefix,
                "feedback",
                "What people and services say about a subject, keyed as the requests of an account are.",
                "delete",
                "feedback",
            ),
            "audit": _channel(prefix, "audit", "Every decision, in chains that show a change.", "delete", "record"),
            "unreadable": _channel(prefix, "unreadable", "What came in and could not be read.", "delete", "unreadable"),
        },
        "operations": {
            "watch": _operation("receive", "requests", "Takes in what was requested."),
            "hear": _operation("receive", "feedback", "Takes in what was said about a subject."),
            "enforce": _operation("send", "enforcement", "Says what to do about whom."),
            "record": _operation("send", "audit", "Keeps what was decided, and why."),
            "setAside": _operation("send", "unreadable", "Keeps what cannot be read, and why."),
        },
        "components": {
            "schemas": {**components, "Record": _RECORD, "UnreadableHeaders": _HEADERS},
            "messages": {
                "request": _message("Request", "The account.", {"$ref": "#/components/schemas/Request"}),
                "verdict": _message("Verdict", _SUBJECT, {"$ref": "#/components/schemas/Verdict"}),
                "feedback": _message("Feedback", "The account or campaign.", {"$ref": "#/components/schemas/Feedback"}),
                "lifted": _message("Lifted", _SUBJECT, {"type": "null", "description": "No verdict any more."}),
                "record": _message("Record", _SUBJECT, {"$ref": "#/components/schemas/Record"}),
                "unreadable": {
                    **_message("Unreadable", "The key as it came.", {"description": "The bytes as they came."}),
                    "contentType": "application/octet-stream",
                    "headers": {"$ref": "#/components/schemas/UnreadableHeaders"},
                },
            },
        },
    }


def _schema(message: type[Request | Verdict | Feedback], name: str) -> dict[str, object]:
    return {"$schema": _DIALECT, "$ref": f"#/$defs/{name}", "$defs": _components("#/$defs/{name}", message)}


def _components(template: str, *messages: type[Request | Verdict | Feedback]) -> dict[str, object]:
    _, components = msgspec.json.schema_components(messages, ref_template=template)
    for component in components.values():
        # Python 3.13 strips the indentation of docstrings; the schema is the same before.
        component["description"] = cleandoc(component["description"])
    if "Request" in components:
        # The decoder itself admits older times (see Request.at); a producer must not send them.
        components["Request"]["properties"]["at"]["minimum"] = EARLIEST_AT
    if "Feedback" in components:
        components["Feedback"]["properties"]["at"]["minimum"] = EARLIEST_AT
    return components


_SUBJECT: Final = "The subject as `scope:value`, such as account:a-17."

_DIGEST: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

_RECORD: Final = {
    "title": "Record",
    "description": "One decision in a chain: change, loss or insertion of a record breaks the next one's `previous`.",
    "type": "object",
    "required": ["writer", "number", "previous", "verdict", "hash"],
    "properties": {
        "writer": {"type": "string", "description": "Names the chain."},
        "number": {"type": "integer", "minimum": 1, "description": "Counts the chain's records."},
        "previous": {**_DIGEST, "description": "`hash` of the record before; zeros for the first."},
        "verdict": {"$ref": "#/components/schemas/Verdict"},
        "feedback": {"$ref": "#/components/schemas/Feedback", "description": "What was said that led to the verdict."},
        "hash": {**_DIGEST, "description": "BLAKE2b of the record's bytes without this field."},
    },
}

_HEADERS: Final = {
    "title": "UnreadableHeaders",
    "type": "object",
    "required": ["reason", "text", "topic", "partition", "offset"],
    "properties": {
        "reason": {"type": "string", "enum": list(dict.fromkeys(REASONS + feedback.REASONS))},
        "text": {"type": "string", "description": "What is wrong, with field and value."},
        "topic": {"type": "string", "description": "Where it came from."},
        "partition": {"type": "string", "description": "Where it came from, in digits."},
        "offset": {"type": "string", "description": "Where it came from, in digits."},
    },
}


def _channel(prefix: str, name: str, description: str, policy: str, *messages: str) -> dict[str, object]:
    return {
        "address": prefix + name,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": [policy]}, "bindingVersion": "0.5.0"}},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, object]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(name: str, key: str, payload: dict[str, str]) -> dict[str, object]:
    return {
        "name": name,
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
    }
