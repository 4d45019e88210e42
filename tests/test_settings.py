"""Settings: read once, checked, told to a person without their secrets."""

from pathlib import Path

import pytest

from streams.settings import MASK, Settings, SettingsError


def test_an_empty_environment_is_a_worker_on_this_machine() -> None:
    settings = Settings.read({"PATH": "/bin", "STILLWATCH_POLICY": ""})

    assert settings == Settings()
    assert settings.connection() == {"bootstrap_servers": "localhost:9092", "security_protocol": "PLAINTEXT"}


def test_each_kind_of_value_is_converted(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.touch()

    settings = Settings.read(
        {
            "STILLWATCH_BROKERS": "a:1,b:2",
            "STILLWATCH_PARTITIONS": "24",
            "STILLWATCH_DRAIN_SECONDS": "2.5",
            "STILLWATCH_IDEMPOTENCE": "False",
            "STILLWATCH_COMPRESSION": "zstd",
            "STILLWATCH_POLICY": str(policy),
            "STILLWATCH_INSTANCE_ID": "pod-0",
        }
    )

    assert settings == Settings(
        brokers="a:1,b:2",
        partitions=24,
        drain_seconds=2.5,
        idempotence=False,
        compression="zstd",
        policy=policy,
        instance_id="pod-0",
    )


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (
            {"STILLWATCH_BROKER": "a:1"},
            "unknown setting STILLWATCH_BROKER; did you mean STILLWATCH_BROKERS?",
        ),
        ({"STILLWATCH_ZZZ": "1"}, "unknown setting STILLWATCH_ZZZ"),
        ({"STILLWATCH_partitions": "3"}, "unknown setting STILLWATCH_partitions"),
        ({"STILLWATCH_PARTITIONS": "many"}, "STILLWATCH_PARTITIONS: 'many' is no whole number"),
        ({"STILLWATCH_PARTITIONS": "0"}, "STILLWATCH_PARTITIONS: 0 is less than 1"),
        ({"STILLWATCH_CHECKPOINT_SECONDS": "nan"}, "STILLWATCH_CHECKPOINT_SECONDS: nan is less than 0.1"),
        ({"STILLWATCH_IDEMPOTENCE": "perhaps"}, "STILLWATCH_IDEMPOTENCE: 'perhaps' is neither true nor false"),
        ({"STILLWATCH_COMPRESSION": "rar"}, "STILLWATCH_COMPRESSION: 'rar' is none of none, gzip, "),
        ({"STILLWATCH_POLICY": "/nowhere.toml"}, "STILLWATCH_POLICY: there is no file /nowhere.toml"),
        ({"STILLWATCH_SECURITY": "SASL_SSL"}, "STILLWATCH_SECURITY=SASL_SSL needs STILLWATCH_SASL_USER"),
        (
            {"STILLWATCH_SECURITY": "SASL_SSL", "STILLWATCH_SASL_USER": "worker"},
            "set STILLWATCH_SASL_PASSWORD or STILLWATCH_SASL_PASSWORD_FILE, one of the two",
        ),
        (
            {"STILLWATCH_DRAIN_SECONDS": "60"},
            "STILLWATCH_DRAIN_SECONDS must be less than STILLWATCH_REBALANCE_SECONDS",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read(environment)

    assert str(refused.value).startswith(complaint)


def test_a_file_that_is_no_certificate_is_named_before_anything_connects(tmp_path: Path) -> None:
    junk = tmp_path / "ca.pem"
    junk.write_text("no certificate")
    with pytest.raises(SettingsError, match=f"^STILLWATCH_TLS_CA: no certificate can be read from {junk}: "):
        Settings.read({"STILLWATCH_TLS_CA": str(junk)})


def test_a_password_may_come_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    login = {"STILLWATCH_SECURITY": "SASL_PLAINTEXT", "STILLWATCH_SASL_USER": "worker"}

    from_file = Settings.read({**login, "STILLWATCH_SASL_PASSWORD_FILE": str(secret)})
    from_variable = Settings.read({**login, "STILLWATCH_SASL_PASSWORD": "hunter2"})

    assert from_file.connection() == from_variable.connection()
    assert from_variable.connection()["sasl_plain_password"] == "hunter2"
    shown = {row.variable: row.value for row in from_variable.describe()}
    assert shown["STILLWATCH_SASL_PASSWORD"] == MASK
    assert not any("hunter2" in " ".join(row) for row in from_variable.describe())


def test_every_setting_says_what_it_is_for() -> None:
    rows = Settings().describe()

    assert len(rows) > 20
    assert all(row.text.endswith(".") and row.value == row.default for row in rows)
