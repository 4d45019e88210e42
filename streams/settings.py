"""Settings: where a worker runs, read once from its environment."""

# ruff: noqa: RUF009  (`_setting` is dataclasses.field with our metadata: it makes a field, not a default)

import difflib
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Final,
    Literal,
    NamedTuple,
    Required,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import aiokafka

from gateway import tls

T = TypeVar("T")

PREFIX: Final = "STILLWATCH_"

MASK: Final = "********"
"""What is shown in place of a secret."""

_WORDS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the variable and what is wrong."""


class Row(NamedTuple):
    """One setting for a person: its variable, the value in force (secrets masked), its default, its use."""

    variable: str
    value: str
    default: str
    text: str


class Connection(TypedDict, total=False):
    """What every Kafka client of ours is opened with."""

    bootstrap_servers: Required[str]
    security_protocol: Required[str]
    ssl_context: ssl.SSLContext | None
    sasl_mechanism: str
    sasl_plain_username: str | None
    sasl_plain_password: str | None


def _setting(default: T, text: str, *, secret: bool = False, least: float | None = None) -> T:
    return field(default=default, metadata={"text": text, "secret": secret, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where a worker runs. What a score earns is in the policy, never here.

    Each field is the variable `STILLWATCH_<FIELD>`. An empty variable counts as absent.
    """

    brokers: str = _setting("localhost:9092", "Kafka brokers, `host:port` separated by commas.")
    topic_prefix: str = _setting("stillwatch.", "What every topic name starts with.")
    policy: Path | None = _setting(None, "Policy file; without it the packaged policy holds.")
    group: str = _setting("stillwatch", "Consumer group of the workers.")
    instance_id: str | None = _setting(
        None,
        "Static member name, such as the pod's name: a quick restart then moves no partition.",
    )
    partitions: int = _setting(
        12, "Partitions of `requests`, `feedback` and `profiles`, fixed when topics are created.", least=1
    )
    replication: int = _setting(3, "Replicas of each topic when topics are created.", least=1)
    web_host: str = _setting("127.0.0.1", "Address of `/metrics`, `/ready` and `/live`.")
    web_port: int = _setting(8080, "Port of the same; 0 opens none.", least=0)
    alertmanager: str | None = _setting(
        None, "Alertmanagers to forward alerts to, `http://host:port` separated by commas; each is told."
    )
    webhook: str | None = _setting(
        None, "URL to which the beginning and the end of each alert are posted as JSON.", secret=True
    )
    webhook_token_file: Path | None = _setting(None, "File with the token the webhook wants (`Authorization: Bearer`).")
    runbooks: str = _setting(
        "https://stillwatch.example/runbooks", "Where docs/runbooks/ is served: forwarded alerts link there."
    )
    security: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = _setting(
        "PLAINTEXT", "How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting("SCRAM-SHA-512", "SASL mechanism.")
    sasl_user: str | None = _setting(None, "User to log in as.")
    sasl_password: str | None = _setting(None, "Its password.", secret=True)
    sasl_password_file: Path | None = _setting(None, "File with the password, in place of the variable.")
    tls_ca: Path | None = _setting(None, "Certificates to trust (PEM); without it the system's.")
    tls_cert: Path | None = _setting(None, "Our own certificate (PEM), where the brokers ask for one.")
    tls_key: Path | None = _setting(None, "The key of our own certificate (PEM).")
    chunk: int = _setting(2_000, "Most records in a micro-batch.", least=1)
    buffer_chunks: int = _setting(4, "Micro-batches held in memory before fetching stops.", least=1)
    profiles: int = _setting(
        2_000_000,
        "Most accounts a worker remembers, at 2 KB each; of too many, strangers silent for longest go first.",
        least=1_000,
    )
    checkpoint_seconds: float = _setting(10.0, "Time between two checkpoints of a partition.", least=0.1)
    checkpoint_rows: int = _setting(50_000, "Requests after which a checkpoint comes earlier.", least=1)
    drain_seconds: float = _setting(
        20.0, "Time allowed to finish and commit work in hand at a rebalance or at the end.", least=0.1
    )
    delivery_seconds: float = _setting(
        60.0, "Time allowed to deliver a message before the worker stops rather than commit past it.", least=1
    )
    session_seconds: float = _setting(45.0, "Silence after which others take a worker's partitions.", least=1)
    rebalance_seconds: float = _setting(60.0, "Time a rebalance waits for a worker.", least=1)
    # lz4 is no quick choice here: aiokafka runs it at level 9, at a seventeenth of zstd's speed.
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = _setting("zstd", "Compression of our messages.")
    idempotence: bool = _setting(True, "Idempotent producing; the embedded broker has none.")

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            raise SettingsError(complaint)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Settings from an environment. Raises SettingsError for what is unknown or impossible."""
        types = get_type_hints(cls)
        values: dict[str, object] = {}
        for variable in sorted(environment):
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in types or variable != PREFIX + name.upper():
                near = difflib.get_close_matches(variable, [_variable(known) for known in types], n=1)
                raise SettingsError(f"unknown setting {variable}" + (f"; did you mean {near[0]}?" if near else ""))
            if environment[variable]:
                values[name] = _convert(variable, environment[variable], types[name])
        return cls(**values)  # type: ignore[arg-type]  # checked against the fields' types just above

    def describe(self) -> list[Row]:
        """Every setting in the order of the fields, secrets masked."""
        rows = []
        for entry in fields(self):
            value = getattr(self, entry.name)
            shown = MASK if entry.metadata["secret"] and value else _show(value)
            rows.append(Row(_variable(entry.name), shown, _show(entry.default), entry.metadata["text"]))
        return rows

    def connection(self) -> Connection:
        """Arguments that every aiokafka client takes."""
        connection = Connection(bootstrap_servers=self.brokers, security_protocol=self.security)
        if self.security in {"SSL", "SASL_SSL"}:
            connection["ssl_context"] = self.ssl_context()
        if self.security.startswith("SASL"):
            connection["sasl_mechanism"] = self.sasl_mechanism
            connection["sasl_plain_username"] = self.sasl_user
            connection["sasl_plain_password"] = self.password()
        return connection

    def ssl_context(self) -> ssl.SSLContext:
        """A TLS context that trusts `tls_ca` and shows `tls_cert` when it is set."""
        return tls.trust(self.tls_ca, self.tls_cert, self.tls_key)

    def password(self) -> str | None:
        """The password from its variable or its file, without the file's line end."""
        if self.sasl_password_file is not None:
            return self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return self.sasl_password

    def webhook_token(self) -> str | None:
        """The webhook's token, without the file's line end."""
        if self.webhook_token_file is None:
            return None
        return self.webhook_token_file.read_text(encoding="utf-8").rstrip("\r\n")

    def producer(self) -> aiokafka.AIOKafkaProducer:
        """A producer for what a worker says; start it before use."""
        return aiokafka.AIOKafkaProducer(
            **self.connection(),
            acks="all",
            enable_idempotence=self.idempotence,
            compression_type=None if self.compression == "none" else self.compression,
            linger_ms=10,
            max_batch_size=256 * 1024,
            max_request_size=LARGEST_MESSAGE,
            request_timeout_ms=int(self.delivery_seconds * 1000),
        )


LARGEST_MESSAGE: Final = 2 * 1024 * 1024
"""Bytes: twice what Kafka takes by default, as an unreadable message travels on with headers added."""


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _show(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _convert(variable: str, text: str, kind: object) -> object:
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise SettingsError(f"{variable}: {text!r} is none of {', '.join(get_args(kind))}")
        return text
    if kind is bool:
        if text.lower() not in _WORDS:
            raise SettingsError(f"{variable}: {text!r} is neither true nor false")
        return _WORDS[text.lower()]
    if kind is int or kind is float:
        try:
            return int(text) if kind is int else float(text)
        except ValueError:
            raise SettingsError(f"{variable}: {text!r} is no {'whole ' * (kind is int)}number") from None
    return Path(text) if kind is Path else text


def _complaints(settings: Settings) -> Iterator[str]:
    for entry in fields(settings):
        least = entry.metadata["least"]
        value = getattr(settings, entry.name)
        if least is not None and not value >= least:
            yield f"{_variable(entry.name)}: {value} is less than {_show(least)}"
    if settings.security.startswith("SASL"):
        if not settings.sasl_user:
            yield f"{_variable('security')}={settings.security} needs {_variable('sasl_user')}"
        if (settings.sasl_password is None) == (settings.sasl_password_file is None):
            yield f"set {_variable('sasl_password')} or {_variable('sasl_password_file')}, one of the two"
    for name in ("policy", "webhook_token_file", "sasl_password_file"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            yield f"{_variable(name)}: there is no file {path}"
    if (settings.tls_cert is None) != (settings.tls_key is None):
        yield f"{_variable('tls_cert')} and {_variable('tls_key')} belong together"
    for name, why in tls.complaints(settings.tls_ca, settings.tls_cert, settings.tls_key):
        yield f"{_variable(name)}: {why}"
    managers = (settings.alertmanager or "").split(",")
    for name, urls in (("alertmanager", managers), ("webhook", [settings.webhook or ""])):
        for url in filter(None, map(str.strip, urls)):
            if not url.startswith(("http://", "https://")):
                shown = repr(url) if name == "alertmanager" else "what it says"
                yield f"{_variable(name)}: {shown} does not begin with http:// or https://"
    if settings.drain_seconds >= settings.rebalance_seconds:
        yield f"{_variable('drain_seconds')} must be less than {_variable('rebalance_seconds')}"
