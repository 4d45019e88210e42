import gzip
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest
from jsonschema.validators import validator_for
from stories import Raw

from gateway import feedback
from gateway.feedback import Feedback
from gateway.request import EARLIEST_AT, REASONS, Request, Sketch
from gateway.schema import asyncapi, feedback_schema, request_schema, verdict_schema
from gateway.verdict import Exposure, Reason, Verdict, encode
from sinks.audit import Chain
from sinks.policy import Decision
from sinks.unreadable import set_aside

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((GOLDEN / name).read_bytes())
    return found


def official() -> dict[str, object]:
    """The JSON Schema of AsyncAPI 3.0.0, as published in @asyncapi/specs (its licence: golden/NOTICE)."""
    schema: dict[str, object] = json.loads(gzip.decompress((GOLDEN / "asyncapi-3.0.0.schema.json.gz").read_bytes()))
    return schema


def request_errors(message: dict[str, object]) -> list[str]:
    return [error.json_path for error in jsonschema.Draft202012Validator(request_schema()).iter_errors(message)]


def verdict_errors(message: object, part: str = "Verdict") -> list[str]:
    schema = {**asyncapi(), "$ref": f"#/components/schemas/{part}"}
    return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(message)]


def test_all_schemas_are_json_schema_2020_12() -> None:
    for schema in (request_schema(), verdict_schema(), feedback_schema()):
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "$defs" in json.loads(json.dumps(schema))


@pytest.mark.parametrize("name", ["request_minimal.json", "request_full.json"])
def test_the_golden_requests_are_valid(name: str) -> None:
    assert request_errors(golden(name)) == []


@pytest.mark.parametrize("name", ["verdict_minimal.json", "verdict_full.json"])
def test_the_golden_verdicts_are_valid(name: str) -> None:
    jsonschema.Draft202012Validator(verdict_schema()).validate(golden(name))
    assert verdict_errors(golden(name)) == []


@pytest.mark.parametrize("name", ["feedback_minimal.json", "feedback_full.json"])
def test_the_golden_feedback_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator(feedback_schema()).validate(golden(name))
    assert verdict_errors(golden(name), "Feedback") == []
    assert verdict_errors({**golden(name), "untl": 5}, "Feedback") == ["$"]


def test_what_the_decoder_refuses_the_schema_refuses() -> None:
    minimal = golden("request_minimal.json")
    assert request_errors({**minimal, "input_tokens": -1}) == ["$.input_tokens"]
    assert request_errors({**minimal, "at": EARLIEST_AT - 1}) == ["$.at"]
    assert request_errors({**minimal, "at": EARLIEST_AT}) == []
    assert request_errors({**minimal, "account": ""}) == ["$.account"]
    assert request_errors({key: value for key, value in minimal.items() if key != "id"}) == ["$"]
    assert request_errors({**minimal, "unknown": 1, "org": None}) == []


@pytest.mark.parametrize("struct", [Request, Sketch, Verdict, Reason, Exposure, Feedback])
def test_every_field_of_every_part_is_described(struct: type[msgspec.Struct]) -> None:
    part = msgspec.json.decode(msgspec.json.encode(asyncapi()))["components"]["schemas"][struct.__name__]
    assert set(part["properties"]) == set(struct.__struct_fields__)
    assert [name for name, found in part["properties"].items() if not found.get("description")] == []
    assert "\n " not in part["description"]


def test_the_asyncapi_document_is_valid() -> None:
    validator = validator_for(official())(official())
    assert [error.message for error in validator.iter_errors(asyncapi())] == []


def test_the_official_schema_would_notice_a_mistake() -> None:
    validator = validator_for(official())(official())
    assert not validator.is_valid({**asyncapi(), "channels": {"requests": {"address": 5}}})
    assert not validator.is_valid({**asyncapi(), "operations": {"watch": {"action": "sends"}}})


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            return [part["$ref"]] if "$ref" in part else [ref for value in part.values() for ref in references(value)]
        return [ref for value in part for ref in references(value)] if isinstance(part, list) else []

    found = references(document)
    assert found
    for reference in found:
        place: object = document
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            place = place[step]


def test_topics_carry_the_prefix_of_the_deployment() -> None:
    channels = asyncapi("eu.")["channels"]
    assert isinstance(channels, dict)
    assert [channel["address"] for channel in channels.values()] == [
        "eu.requests",
        "eu.enforcement",
        "eu.feedback",
        "eu.audit",
        "eu.unreadable",
    ]


def test_an_audit_record_is_as_described() -> None:
    verdict = msgspec.json.decode((GOLDEN / "verdict_full.json").read_bytes(), type=Verdict)
    record = json.loads(Chain("requests-0").append(Decision(verdict)))
    assert verdict_errors(record, "Record") == []
    assert record["verdict"] == json.loads(encode(verdict))


def test_an_unreadable_records_headers_are_as_described() -> None:
    for reason in REASONS + feedback.REASONS:
        _, _, headers = set_aside(Raw(b"x"), reason=reason, text="at: missing", topic="requests", partition=3)
        assert verdict_errors({name: value.decode() for name, value in headers}, "UnreadableHeaders") == []
