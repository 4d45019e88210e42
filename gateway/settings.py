"""Settings: where a gateway finds Kafka and whom it believes, read once from its environment."""

import difflib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Required, TypedDict

import msgspec
from msgspec import Meta

from . import tls
from .perturb import BOUND
from .privacy import EPSILON

PREFIX: Final = "STILLWATCH_"

_FILES: Final = ("sasl_password", "secret", "previous_secret", "redis_url")
"""Settings that may stand in a file, which the same variable with `_FILE` at its end names."""

Header = Annotated[str, Meta(pattern="^[A-Za-z0-9-]+$")]
Secret = Annotated[str, Meta(min_length=16)]
Positive = Annotated[int, Meta(ge=1)]
Above0 = Annotated[float, Meta(gt=0)]


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the variable and what is wrong."""


class Connection(TypedDict, total=False):
    """What every Kafka client of ours is opened with."""

    bootstrap_servers: Required[str]
    security_protocol: Required[str]
    ssl_context: ssl.SSLContext | None
    sasl_mechanism: str
    sasl_plain_username: str | None
    sasl_plain_password: str | None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each field is the variable `STILLWATCH_<FIELD>`; an empty one counts as absent. The README explains them all.

    `secret`, `previous_secret`, `sasl_password` and `redis_url` may stand in files: `STILLWATCH_SECRET_FILE` and so on.
    """

    brokers: str = "localhost:9092"
    topic_prefix: str = "stillwatch."
    security: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_user: str | None = None
    sasl_password: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    secret: Secret | None = None
    previous_secret: Secret | None = None

    account_header: Header | None = None
    org_header: Header | None = None
    plan_header: Header | None = None
    opened_at_header: Header | None = None
    payment_header: Header | None = None
    address_header: Header | None = None
    country_header: Header | None = None
    client_header: Header | None = None
    pathway: str | None = None
    hash_addresses: bool = False
    prompts: Literal["sketch", "text", "none"] = "sketch"
    buffer_requests: Positive = 20_000
    buffer_bytes: Positive = 64 * 1024 * 1024

    enforce: bool = True
    # How far the topic goes is asked once a second: less than two would take a calm topic for a cut line now and then.
    stale_seconds: Annotated[float, Meta(ge=2)] = 60.0
    when_stale: Literal["allow", "keep"] = "allow"
    most_verdicts: Positive = 1_000_000
    replicas: Positive = 1
    redis_url: Annotated[str, Meta(pattern="^(rediss?|unix)://")] | None = None
    redis_seconds: Annotated[float, Meta(gt=0)] = 0.02
    verify_url: str | None = None
    bouncer_keys: str | None = None
    explain: bool = True

    probabilities: Literal["withhold", "perturb", "private"] = "withhold"
    probability_bound: Annotated[float, Meta(gt=0, le=1)] = BOUND
    alternatives: Annotated[int, Meta(ge=0, le=1_000)] = 1
    epsilon: Above0 = EPSILON
    epsilon_budget: Above0 = 1_000.0
    when_spent: Literal["withhold", "refuse"] = "withhold"
    watermark: Literal["none", "green", "tournament"] = "none"

    @classmethod
    def read(cls, environment: Mapping[str, str], *, identifies: bool = True) -> "Settings":
        """Settings from an environment; `identifies` where it must be told whose a request is.

        Raises SettingsError for what is unknown or impossible.
        """
        values: dict[str, str] = {}
        for variable, text in sorted(environment.items()):
            if not variable.startswith(PREFIX) or not text:
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name.removesuffix("_file") in _FILES and name.endswith("_file"):
                name, text = name.removesuffix("_file"), _content(variable, text)
            if variable not in (_variable(name), _variable(name) + "_FILE") or name not in cls.__struct_fields__:
                near = difflib.get_close_matches(variable, map(_variable, cls.__struct_fields__), n=1)
                raise SettingsError(f"unknown setting {variable}" + (f"; did you mean {near[0]}?" if near else ""))
            if name in values:
                raise SettingsError(f"set {_variable(name)} or {_variable(name)}_FILE, one of the two")
            values[name] = text
        try:
            settings = msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            problem, _, where = str(error).partition(" - at `$.")
            problem = problem[:1].lower() + problem[1:].replace("`", "")
            raise SettingsError(f"{_variable(where.rstrip('`'))}: {problem}") from None
        return settings.checked(identifies=identifies)

    def checked(self, *, identifies: bool = True) -> "Settings":
        """Itself. Raises SettingsError where settings do not fit together."""
        if identifies and self.account_header is None and self.secret is None:
            raise SettingsError(
                f"set {_variable('account_header')} (the header in which your proxy names the account) "
                f"or {_variable('secret')} (then a keyed hash of the API key stands for the account)"
            )
        for field in ("previous_secret", "payment_header", "hash_addresses"):
            if getattr(self, field) and self.secret is None:
                raise SettingsError(f"{_variable(field)} needs {_variable('secret')}")
        for field, without in (("probabilities", "withhold"), ("watermark", "none")):
            if (value := getattr(self, field)) != without and self.secret is None:
                raise SettingsError(f"{_variable(field)}={value} needs {_variable('secret')}")
        if self.security.startswith("SASL") and not (self.sasl_user and self.sasl_password):
            needed = f"{_variable('sasl_user')} and {_variable('sasl_password')}"
            raise SettingsError(f"{_variable('security')}={self.security} needs {needed}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError(f"{_variable('tls_cert')} and {_variable('tls_key')} belong together")
        for field, why in tls.complaints(self.tls_ca, self.tls_cert, self.tls_key):
            raise SettingsError(f"{_variable(field)}: {why}")
        return self

    def connection(self) -> Connection:
        """Arguments that every aiokafka client takes. Raises OSError when a certificate cannot be read."""
        connection = Connection(bootstrap_servers=self.brokers, security_protocol=self.security)
        if self.security in {"SSL", "SASL_SSL"}:
            connection["ssl_context"] = tls.trust(self.tls_ca, self.tls_cert, self.tls_key)
        if self.security.startswith("SASL"):
            connection["sasl_mechanism"] = self.sasl_mechanism
            connection["sasl_plain_username"] = self.sasl_user
            connection["sasl_plain_password"] = self.sasl_password
        return connection


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _content(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error}") from None
