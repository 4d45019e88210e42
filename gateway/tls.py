"""TLS: which certificates we trust and show, and whether these files are any."""

import ssl
from collections.abc import Iterator
from pathlib import Path


def trust(ca: Path | str | None, cert: Path | str | None, key: Path | str | None) -> ssl.SSLContext:
    """A context that trusts `ca`, or the system's certificates, and shows `cert` when it is set.

    Raises OSError, of which ssl.SSLError is one, where a file cannot be read or is no PEM of its kind.
    """
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def complaints(ca: Path | str | None, cert: Path | str | None, key: Path | str | None) -> Iterator[tuple[str, str]]:
    """The settings whose file cannot be used, `tls_ca` before the others, and why."""
    files = {"tls_ca": ca, "tls_cert": cert, "tls_key": key}
    missing = [name for name, path in files.items() if path is not None and not Path(path).is_file()]
    for name in missing:
        yield name, f"there is no file {files[name]}"
    if missing:
        return
    try:
        trust(ca, None, None)
    except OSError as error:
        yield "tls_ca", f"no certificate can be read from {ca}: {error.strerror or error}"
    if cert is None or key is None:
        return
    try:
        trust(None, cert, key)
    except OSError as error:
        yield "tls_cert", f"{cert} and {key} are no certificate and its key: {error.strerror or error}"
