"""Runs docker-compose.yml without an engine: each container is a process in its own network namespace.

Law of this file: it implements or refuses each key of the file. A container has a separate root with the system
read-only and its volumes, the services' names in its hosts file, secrets as files, only the environment and the user of
the file, and no capabilities. Its restart policy restarts it, and its health check decides its health. A key that is
neither implemented nor in :data:`NOT_CARRIED_OUT` is an error.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.deploy.hosts import Hosts

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "docker-compose.yml"
NOT_CARRIED_OUT = {"build", "depends_on", "init", "shm_size", "stop_grace_period", "security_opt", "cap_drop"}
"""Keys that have no effect here, or that hold for every container: none has a capability or may get one."""
CARRIED_OUT = {
    *("command", "deploy", "environment", "healthcheck", "image", "profiles", "read_only", "restart", "secrets"),
    *("tmpfs", "user", "volumes"),
}
DEADLINE_S = 90.0
FIRST_PAUSE_S = 0.1
"""Delay before the first restart of a container; it doubles with each further restart."""
SYSTEM = ("/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64")
PYTHON = (
    str(REPOSITORY),
    sys.prefix,
    *map(os.path.realpath, (sys.prefix, sys.base_prefix, *filter(os.path.isdir, sys.path))),
)
"""Replaces the files of the image; readable by every user, independent of the modes of the folders above."""
START = r"""
set -euo pipefail
hostname "$NAME"
mount -t tmpfs -o mode=755 tmpfs "$ROOT"
shown() { # PATH: the same path inside, read-only
    [ -e "$1" ] || return 0
    if [ -L "$1" ] && [ "${2:-}" = link ]; then cp -a "$1" "$ROOT$1"; return; fi
    mkdir -p "$ROOT$1"
    mount --bind "$1" "$ROOT$1"
    mount -o remount,bind,ro "$ROOT$1"
}
for path in $SYSTEM; do shown "$path" link; done
for path in /dev /proc /sys; do mkdir "$ROOT$path"; mount --rbind "$path" "$ROOT$path"; done
mount --bind "$HOSTS" "$ROOT/etc/hosts"
while IFS=: read -r source target mode; do
    if [ "$mode" = tmpfs ]; then mkdir -p "$ROOT$target"; mount -t tmpfs -o mode=1777 tmpfs "$ROOT$target"; continue; fi
    if [ -d "$source" ]; then mkdir -p "$ROOT$target"; else mkdir -p "$ROOT${target%/*}"; touch "$ROOT$target"; fi
    mount --bind "$source" "$ROOT$target"
    [ "$mode" = rw ] || mount -o remount,bind,ro "$ROOT$target"
done <<< "$MOUNTS"
# Last: a checkout may lie below what was mounted now, in /tmp for example.
for path in $PYTHON; do shown "$path"; done
[ "$READ_ONLY" = no ] || mount -o remount,ro "$ROOT"
exec chroot "$ROOT" "$@"
"""


def interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    """A part of the file with ``${NAME}`` and ``${NAME:-default}`` replaced in all of its texts."""
    if isinstance(node, dict):
        return {key: interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, variables) for value in node]
    if not isinstance(node, str):
        return node
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", lambda found: variables.get(found[1]) or found[2] or "", node)


@dataclass(frozen=True)
class Image:
    """What a Dockerfile specifies for the containers of its image."""

    entrypoint: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> Image:
        text = file.read_text("utf-8").replace("\\\n", " ")
        (entrypoint,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
        pairs = [word.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for word in line.split()]
        # The environment of this test run replaces the one in the image.
        own = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return cls(tuple(json.loads(entrypoint)), {**dict(pairs), **own})


@dataclass
class Container:
    """One container of a service: its configuration, and its current process."""

    name: str
    host: int
    service: Mapping[str, Any]
    image: Image
    mounts: Sequence[tuple[Path | None, str, str]]
    place: Path
    process: subprocess.Popen[bytes] | None = None
    exit_codes: list[int] = field(default_factory=list)
    is_wanted: bool = True
    starts_at: float = 0.0

    @property
    def log(self) -> Path:
        return self.place / "log.txt"

    @property
    def log_text(self) -> str:
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_back(self) -> bool:
        """Whether it runs again after it ended."""
        return self.is_running and bool(self.exit_codes)

    @property
    def has_ended(self) -> bool:
        """Whether it has exited with 0."""
        return self.process is None and self.exit_codes[-1:] == [0]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.image.environment, **self.service.get("environment", {})}

    def as_its_user(self, command: Sequence[str]) -> list[str]:
        user, _, group = str(self.service["user"]).partition(":")
        drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
        clean = ["env", "-i", *(f"{name}={value}" for name, value in self.environment.items())]
        return [*drop, "--inh-caps=-all", "--bounding-set=-all", *clean, *command]

    def start(self, hosts: Hosts, names: Path) -> None:
        """Start the container's own command in its namespaces."""
        root = self.place / "root"
        root.mkdir(exist_ok=True)
        environment = {
            "PATH": os.environ["PATH"],
            "NAME": self.name,
            "ROOT": str(root),
            "HOSTS": str(names),
            "SYSTEM": " ".join(SYSTEM),
            "PYTHON": " ".join(dict.fromkeys(PYTHON)),
            "MOUNTS": "\n".join(f"{source or ''}:{target}:{mode}" for source, target, mode in self.mounts),
            "READ_ONLY": "yes" if self.service.get("read_only") else "no",
        }
        command = [*self.image.entrypoint, *shlex.split(str(self.service["command"]))]
        inside = ["unshare", "--mount", "--uts", "bash", "-c", START, "start", *self.as_its_user(command)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*hosts.on(self.host), *inside],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the container's first process."""
        assert self.process is not None
        self.process.send_signal(number)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run another command in the running container, like ``docker exec``."""
        assert self.process is not None
        enter = ["nsenter", "-t", str(self.process.pid), "-m", "-u", "-n", "-r"]
        return subprocess.run(
            [*enter, *self.as_its_user(command)], capture_output=True, text=True, timeout=60, check=False
        )

    def is_healthy(self) -> bool:
        """The result of its health check, run once."""
        kind, *command = self.service["healthcheck"]["test"]
        assert kind == "CMD", f"{self.name}: only CMD is carried out, got {kind}"
        return self.is_running and self.run(command).returncode == 0


class Composition:
    """The containers of the file; a context manager, which ends all of them.

    Parameters
    ----------
    place
                An empty folder for volumes and logs.
    hosts
        Virtual hosts, at least one for each container.
    variables
                Values of the file's variables.
    profiles
                Active profiles.
    apart
                Whether every container has separate volumes, as on hosts that share no disk.
    """

    def __init__(
        self,
        place: Path,
        hosts: Hosts,
        variables: Mapping[str, str],
        *,
        profiles: Sequence[str] = (),
        apart: bool = False,
    ) -> None:
        self._place, self._hosts, self._apart = place, hosts, apart
        self._file = interpolated(yaml.safe_load(FILE.read_text("utf-8")), variables)
        self._names = place / "hosts"
        self.containers: dict[str, Container] = {}
        place.chmod(0o755)
        for service, config in self._file["services"].items():
            unknown = set(config) - CARRIED_OUT - NOT_CARRIED_OUT
            assert not unknown, f"{service}: {sorted(unknown)} is not carried out; teach this driver, or say why not"
            if not config.get("profiles") or set(config["profiles"]) & set(profiles):
                for number in range(1, int(config.get("deploy", {}).get("replicas", 1)) + 1):
                    self._add(f"{service}-{number}", config)
        lines = [f"{hosts.address(each.host)} {each.name} {each.name.rpartition('-')[0]}" for each in self]
        self._names.write_text("".join(f"{line}\n" for line in ["127.0.0.1 localhost", *lines]))

    def __iter__(self) -> Iterator[Container]:
        return iter(self.containers.values())

    def __getitem__(self, name: str) -> Container:
        return self.containers[name]

    def __enter__(self) -> Composition:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in self:
            if container.process is not None:
                container.process.kill()
                container.process.wait()

    def _add(self, name: str, config: Mapping[str, Any]) -> None:
        place = self._place / name
        place.mkdir()
        kind = str(config["image"]).rpartition(":")[2]
        image = Image.read(REPOSITORY / "deploy" / "docker" / f"{kind}.Dockerfile")
        mounts = list(self._mounts(place, config))
        self.containers[name] = Container(name, len(self.containers), config, image, mounts, place)

    def _mounts(self, place: Path, config: Mapping[str, Any]) -> Iterator[tuple[Path | None, str, str]]:
        for target in config.get("tmpfs", []):
            yield None, target, "tmpfs"
        for volume in config.get("volumes", []):
            source, target, *mode = volume.split(":")
            yield self._source(place, source), target, mode[0] if mode else "rw"
        for secret in config.get("secrets", []):
            yield REPOSITORY / self._file["secrets"][secret]["file"], f"/run/secrets/{secret}", "ro"

    def _source(self, place: Path, source: str) -> Path:
        if source not in self._file["volumes"]:
            return REPOSITORY / source
        volume = self.volume(source, place)
        volume.mkdir(parents=True, exist_ok=True)
        # An engine gives a new volume the mode of its folder in the image.
        volume.chmod(0o1777)
        return volume

    def volume(self, name: str, place: Path | None = None) -> Path:
        """The folder of a named volume: one for all containers, or one for each."""
        return (place if self._apart and place is not None else self._place) / "volumes" / name

    def up(self, *names: str) -> None:
        """Start these containers, or all if no name is given; running ones stay."""
        for name in names or tuple(self.containers):
            container = self.containers[name]
            container.is_wanted = True
            if not container.is_running:
                container.start(self._hosts, self._names)

    def tend(self) -> None:
        """Restart containers according to their policies, after a growing delay; call it repeatedly."""
        now = time.monotonic()
        for container in self:
            process = container.process
            if process is None or process.poll() is None:
                if container.starts_at and now >= container.starts_at and process is None and container.is_wanted:
                    container.starts_at = 0.0
                    container.start(self._hosts, self._names)
                continue
            container.exit_codes.append(process.returncode)
            container.process = None
            pause_s = FIRST_PAUSE_S * 2 ** (len(container.exit_codes) - 1)
            container.starts_at = now + pause_s if self._starts_again(container) else 0.0

    @staticmethod
    def _starts_again(container: Container) -> bool:
        match container.service.get("restart", "no"):
            case "no":
                return False
            case "on-failure":
                return container.is_wanted and container.exit_codes[-1] != 0
            case "unless-stopped":
                return container.is_wanted
            case policy:
                raise AssertionError(f"{container.name}: the restart policy {policy!r} is not carried out")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; meanwhile restart containers according to their policies."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            logs = "\n".join(f"--- {each.name} {each.exit_codes}\n{each.log_text[-2_000:]}" for each in self)
            assert time.monotonic() < deadline, f"timed out: {what}\n{logs}"
            self.tend()
            time.sleep(0.05)

    def stop(self, name: str) -> int:
        """Stop a container permanently, with an engine's signal and grace period; return its exit code."""
        container = self.containers[name]
        container.is_wanted = False
        if container.process is None:
            return container.exit_codes[-1]
        container.send(signal.SIGTERM)
        grace = re.fullmatch(r"(\d+)s", container.service.get("stop_grace_period", "10s"))
        assert grace is not None
        try:
            code = container.process.wait(float(grace[1]))
        except subprocess.TimeoutExpired:
            container.process.kill()
            code = container.process.wait()
        container.exit_codes.append(code)
        container.process = None
        return code
