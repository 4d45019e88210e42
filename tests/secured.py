"""Secured: an Apache Kafka that demands TLS, a login and permission, with the users of k8s/kafka/users.yaml."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from brokers import Java, NoKafkaError, free_port, own_kafka

from streams.settings import Settings

USERS = Path(__file__).parents[1] / "k8s" / "kafka" / "users.yaml"
ADMIN = "admin"

_RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactionalId": 5}
_PATTERNS = {"literal": 3, "prefix": 4}
_OPERATIONS = {
    "All": 2, "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "ClusterAction": 9,
    "DescribeConfigs": 10, "AlterConfigs": 11, "IdempotentWrite": 12,
}  # fmt: skip
_ALLOW = 3


def users() -> dict[str, list[dict[str, Any]]]:
    """What each user of the manifest is allowed."""
    manifests = [one for one in yaml.safe_load_all(USERS.read_text()) if one and one["kind"] == "KafkaUser"]
    assert {one["spec"]["authentication"]["type"] for one in manifests} == {"scram-sha-512"}
    return {one["metadata"]["name"]: one["spec"]["authorization"]["acls"] for one in manifests}


@dataclass
class Secured:
    """The broker, and how each user gets in."""

    address: str
    authority: Path
    """The certificate that signed the broker's."""
    java: Java
    passwords: dict[str, str] = field(default_factory=dict)

    def environment(self, user: str, **more: str) -> dict[str, str]:
        """Settings of a worker or a command that logs in as `user`."""
        return {
            **self.gateway(user),
            "STILLWATCH_REPLICATION": "1",
            "STILLWATCH_PARTITIONS": "4",
            "STILLWATCH_WEB_PORT": str(free_port()),
            "STILLWATCH_SESSION_SECONDS": "6",
            "STILLWATCH_CHECKPOINT_SECONDS": "1",
            **more,
        }

    def gateway(self, user: str) -> dict[str, str]:
        """Settings of whoever only talks to the brokers."""
        return {
            "STILLWATCH_BROKERS": self.address,
            "STILLWATCH_SECURITY": "SASL_SSL",
            "STILLWATCH_SASL_USER": user,
            "STILLWATCH_SASL_PASSWORD": self.passwords[user],
            "STILLWATCH_TLS_CA": str(self.authority),
        }

    def settings(self, user: str) -> Settings:
        """The same, read."""
        return Settings.read(self.environment(user))


@contextmanager
def secured_kafka(folder: Path) -> Iterator[Secured]:
    """Start it with TLS, SCRAM-SHA-512 and the manifest's ACLs; all else is denied. Raises NoKafkaError."""
    if not shutil.which("openssl"):
        raise NoKafkaError("needs openssl for certificates: apt-get install openssl")
    authority, keystore = _certificates(folder)
    passwords = {name: f"{name}-password" for name in (ADMIN, *users())}
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    java = own_kafka(
        folder,
        client="SASL_SSL",
        more=f"""sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.client.scram-sha-512.sasl.jaas.config={login} username="{ADMIN}" password="{passwords[ADMIN]}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{ADMIN};User:ANONYMOUS
""",  # nobody is ANONYMOUS on the clients' listener; the controller's own is
        formatting=[
            word
            for name, password in passwords.items()
            for word in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        ],
    )
    secured = Secured(java.address, authority, java, passwords)
    try:
        java.start()
        asyncio.run(_grant(secured))
        yield secured
    finally:
        java.end()


def _certificates(folder: Path) -> tuple[Path, Path]:
    """An authority, and a broker's key with its certificate for 127.0.0.1."""
    authority, key = folder / "ca.pem", folder / "ca.key"
    certificate, broker_key, keystore = folder / "broker.pem", folder / "broker.key", folder / "keystore.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    _openssl("req", "-x509", *curve, "-subj", "/CN=test authority", "-keyout", key, "-out", authority)
    _openssl(
        *("req", "-x509", *curve, "-subj", "/CN=broker", "-keyout", broker_key, "-out", certificate),
        *("-CA", authority, "-CAkey", key, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    keystore.write_text(broker_key.read_text() + certificate.read_text() + authority.read_text())
    return authority, keystore


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def _grant(secured: Secured) -> None:
    """Allow what the manifest allows."""
    admin = AIOKafkaAdminClient(**secured.settings(ADMIN).connection())
    await admin.start()
    for user, rules in users().items():
        for rule in rules:
            resource = rule["resource"]
            for operation in rule["operations"]:
                request = CreateAclsRequest(
                    *(_RESOURCES[resource["type"]], resource["name"], _PATTERNS[resource["patternType"]]),
                    *(f"User:{user}", rule.get("host", "*"), _OPERATIONS[operation], _ALLOW),
                )
                for code, text in (await admin._send_to_controller(request)).creation_responses:
                    assert code == 0, f"{user}: {rule}: {text}"
    await admin.close()
