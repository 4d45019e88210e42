"""Policy file: the rules a worker goes by, read again whenever the file changes."""

import logging
from pathlib import Path
from typing import Final

from sinks.metrics import Metrics
from sinks.policy import Policy, PolicyError

_log: Final = logging.getLogger(__name__)


class PolicyFile:
    """What a worker decides by. A file that is refused changes nothing: the policy before it stays in force.

    It is enough to look from time to time: a look costs one `stat`. A link that is turned to another file, as
    Kubernetes does with a ConfigMap, is a change. Without a file the packaged policy holds, for ever.
    """

    def __init__(self, path: Path | None, metrics: Metrics) -> None:
        """Raises PolicyError: a worker does not begin by rules that nobody wrote."""
        self._path = path
        self._metrics = metrics
        self._stamp = self._stamped()
        self.policy = Policy.load(path)

    def look(self) -> Policy | None:
        """The policy of the file if it is another one now; None when it is not, or when it is refused."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            found = Policy.load(self._path)
        except PolicyError as error:
            _log.error("policy refused, %s stays in force: %s", self.policy.version, error)
            self._metrics.policy_reads.labels("refused").inc()
            self._metrics.policy_refused.set(1)
            return None
        self._metrics.policy_refused.set(0)
        if found == self.policy:
            return None
        if found.version == self.policy.version:
            _log.warning("policy changed and is still called %s: no verdict tells which one decided", found.version)
        _log.warning("policy %s takes the place of %s", found.version, self.policy.version)
        self._metrics.policy_reads.labels("adopted").inc()
        self.policy = found
        return found

    def _stamped(self) -> tuple[int, int, int] | None:
        """What changes with the file; None while it cannot be looked at."""
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size
