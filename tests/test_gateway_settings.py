"""A gateway's settings: refused when wrong, and with the variable's name."""

import re
from pathlib import Path

import pytest

from gateway.settings import Settings, SettingsError

ENOUGH = {"STILLWATCH_ACCOUNT_HEADER": "x-account"}


def test_variables_become_settings() -> None:
    settings = Settings.read(
        ENOUGH
        | {"STILLWATCH_REPLICAS": "3", "STILLWATCH_STALE_SECONDS": "2.5", "STILLWATCH_ENFORCE": "false"}
        | {"STILLWATCH_BROKERS": "", "OTHER": "x"}
    )
    assert (settings.account_header, settings.replicas, settings.stale_seconds) == ("x-account", 3, 2.5)
    assert (settings.enforce, settings.brokers) == (False, "localhost:9092")


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sixteen letters!\n")
    settings = Settings.read({"STILLWATCH_SECRET_FILE": str(tmp_path / "secret")})
    assert settings.secret == "sixteen letters!"


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "set STILLWATCH_ACCOUNT_HEADER (the header in which your proxy names the account) or STILLWATCH_SECRET"),
        (ENOUGH | {"STILLWATCH_REPLICA": "3"}, "unknown setting STILLWATCH_REPLICA; did you mean STILLWATCH_REPLICAS?"),
        (ENOUGH | {"STILLWATCH_replicas": "3"}, "unknown setting STILLWATCH_replicas"),
        (ENOUGH | {"STILLWATCH_REPLICAS": "0"}, "STILLWATCH_REPLICAS: expected int >= 1"),
        (ENOUGH | {"STILLWATCH_REPLICAS": "many"}, "STILLWATCH_REPLICAS: expected int, got str"),
        (ENOUGH | {"STILLWATCH_STALE_SECONDS": "1"}, "STILLWATCH_STALE_SECONDS: expected float >= 2"),
        (ENOUGH | {"STILLWATCH_WHEN_STALE": "deny"}, "STILLWATCH_WHEN_STALE: invalid enum value 'deny'"),
        ({"STILLWATCH_ACCOUNT_HEADER": "x account"}, "STILLWATCH_ACCOUNT_HEADER: expected str matching regex"),
        ({"STILLWATCH_SECRET": "short"}, "STILLWATCH_SECRET: expected str of length >= 16"),
        ({"STILLWATCH_SECRET_FILE": "/nowhere"}, "STILLWATCH_SECRET_FILE: cannot read /nowhere"),
        (ENOUGH | {"STILLWATCH_HASH_ADDRESSES": "yes please"}, "STILLWATCH_HASH_ADDRESSES: expected bool, got str"),
        (ENOUGH | {"STILLWATCH_HASH_ADDRESSES": "true"}, "STILLWATCH_HASH_ADDRESSES needs STILLWATCH_SECRET"),
        (ENOUGH | {"STILLWATCH_SECURITY": "SASL_SSL"}, "STILLWATCH_SECURITY=SASL_SSL needs STILLWATCH_SASL_USER and"),
        (ENOUGH | {"STILLWATCH_TLS_CERT": "a.pem"}, "STILLWATCH_TLS_CERT and STILLWATCH_TLS_KEY belong together"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environment)
    assert str(caught.value).startswith(complaint)


def test_a_secret_stands_in_no_message() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({"STILLWATCH_SECRET": "psst"})
    assert "psst" not in str(caught.value)


def test_brokers_behind_a_login_get_it() -> None:
    settings = Settings.read(
        ENOUGH
        | {"STILLWATCH_SECURITY": "SASL_SSL", "STILLWATCH_SASL_USER": "ada", "STILLWATCH_SASL_PASSWORD": "secret"}
    )
    connection = settings.connection()
    assert (connection["sasl_plain_username"], connection["sasl_mechanism"]) == ("ada", "SCRAM-SHA-512")
    assert connection["ssl_context"] is not None


def test_the_readme_explains_every_setting_and_no_other() -> None:
    readme = (Path(__file__).parents[1] / "gateway" / "README.md").read_text("utf-8")
    table = readme.partition("## Settings")[2].partition("\n\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name.lower() for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)} - {"stillwatch_"}
    assert named == set(Settings.__struct_fields__)


def test_the_readme_states_the_defaults() -> None:
    readme = (Path(__file__).parents[1] / "gateway" / "README.md").read_text("utf-8")
    ready = Settings(account_header="x-account")
    for name, default in (
        ("stale_seconds", f"`{ready.stale_seconds:g}`"),
        ("most_verdicts", f"`{ready.most_verdicts}`"),
        ("buffer_requests", f"`{ready.buffer_requests}`"),
        ("prompts", f"`{ready.prompts}`"),
        ("when_stale", f"`{ready.when_stale}`"),
        ("probabilities", f"`{ready.probabilities}`"),
        ("probability_bound", f"`{ready.probability_bound:g}`"),
        ("alternatives", f"`{ready.alternatives}`"),
        ("watermark", f"`{ready.watermark}`"),
        ("epsilon", f"`{ready.epsilon:g}`, `{ready.epsilon_budget:g}`"),
        ("when_spent", f"`{ready.when_spent}`"),
    ):
        (row,) = [
            line for line in readme.splitlines() if line.startswith("| `") and f"`{name.upper()}`" in line.split("|")[1]
        ]
        assert default in row


def test_a_certificate_that_is_not_there_is_named() -> None:
    given = {"STILLWATCH_ACCOUNT_HEADER": "x-account", "STILLWATCH_SECURITY": "SSL"}
    with pytest.raises(SettingsError, match=r"^STILLWATCH_TLS_CA: there is no file /nowhere/ca.pem$"):
        Settings.read({**given, "STILLWATCH_TLS_CA": "/nowhere/ca.pem"})


def test_a_file_that_is_no_certificate_is_named_before_anything_connects(tmp_path: Path) -> None:
    junk = tmp_path / "ca.pem"
    junk.write_text("no certificate")
    given = {"STILLWATCH_ACCOUNT_HEADER": "x-account", "STILLWATCH_SECURITY": "SSL"}
    with pytest.raises(SettingsError, match=f"^STILLWATCH_TLS_CA: no certificate can be read from {junk}: "):
        Settings.read({**given, "STILLWATCH_TLS_CA": str(junk)})
    with pytest.raises(
        SettingsError, match=f"^STILLWATCH_TLS_CERT: {junk} and {junk} are no certificate and its key: "
    ):
        Settings.read({**given, "STILLWATCH_TLS_CERT": str(junk), "STILLWATCH_TLS_KEY": str(junk)})
