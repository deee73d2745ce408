"""The files for containers pass the checks of their tools, and agree with the documents."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from hpbandster_lite import __version__
from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.settings.search_file import read_search_file
from tests.deploy.composition import FILE, interpolated

REPOSITORY = Path(__file__).parents[2]
IMAGES = REPOSITORY / "deploy" / "docker"
DOCKERFILES = [IMAGES / f"{name}.Dockerfile" for name in ("service", "worker")]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that supports the manifests, and the newest one whose schemas are installed."""
GRACE_S = 25
"""An objective has 20 s to save, and its agent 5 s to hand it back."""
PASSED = ("RUN_ID", "KEY_FILE", "NAMESERVER", "NAMESERVER_KEY_FILE")
"""Environment variables of every master and worker of a run."""
NEEDS_IT = os.environ.get("REQUIRE_CONTAINER_TOOLS") == "1"


def tool(name: str, remedy: str) -> str:
    """Path of a program beside this Python or on PATH; without it the test is skipped, or fails if it is required."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        words = f"NOT TESTED, {name} is not installed: {remedy}"
        if NEEDS_IT:
            pytest.fail(words)
        pytest.skip(words)
    return found


def output_of(*command: str | Path, cwd: Path = REPOSITORY, env: Mapping[str, str] | None = None) -> str:
    """Run a tool, which must succeed; return its output."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | dict(env or {}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def composition(**variables: str) -> dict[str, Any]:
    services: dict[str, Any] = interpolated(yaml.safe_load(FILE.read_text("utf-8")), variables)
    return services


def objects(kind: str | None = None) -> Iterator[dict[str, Any]]:
    """All Kubernetes objects of the manifests, or those of one kind."""
    for path in MANIFESTS:
        yield from (each for each in yaml.safe_load_all(path.read_text("utf-8")) if kind in (None, each["kind"]))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of the objects that create pods, each with the specification of its pods."""
    for each in objects():
        if "template" in each["spec"]:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


# ----------------------------------------------------------------------------------------------- checks by the tools


@pytest.mark.parametrize("more", [[], ["--profile", "gpu"]], ids=["cpu", "gpu"])
def test_docker_compose_accepts_the_composition(more: list[str]) -> None:
    compose = tool("docker-compose", "apt-get install -y --no-install-recommends docker-compose")
    config = yaml.safe_load(output_of(compose, *more, "config", env={"WORKERS": "3", "PROBLEM": "net.py"}))
    assert config["services"]["worker-gpu"]["profiles"] == ["gpu"]
    assert config["services"]["worker"]["deploy"]["replicas"] == 3
    assert config["services"]["worker"]["command"].startswith("worker net.py ")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing_in_a_dockerfile(file: Path) -> None:
    assert output_of(tool("hadolint", 'pip install -e ".[dev]"'), "--no-color", file) == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kubernetes_object_fits_its_schema(version: str) -> None:
    validate = tool("kubernetes-validate", 'pip install -e ".[dev]"')
    output_of(validate, "--strict", "-k", version, *MANIFESTS)


def test_what_kustomize_makes_of_the_manifests_fits_the_schemas_too(tmp_path: Path) -> None:
    kubectl = tool("kubectl", "apt-get install -y kubernetes-client, or any newer one")
    validate = tool("kubernetes-validate", 'pip install -e ".[dev]"')
    copy = shutil.copytree(KUBERNETES, tmp_path / "kubernetes", ignore=shutil.ignore_patterns("keys"))
    (copy / "keys").mkdir()
    for name in ("run.key", "nameserver.key"):
        (copy / "keys" / name).write_text("0" * 64)
    made = tmp_path / "made.yaml"
    made.write_text(output_of(kubectl, "kustomize", copy))
    output_of(validate, "--strict", "-k", VERSIONS[0], made)
    rendered = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(made.read_text("utf-8"))}
    assert set(rendered) >= {(each["kind"], each["metadata"]["name"]) for each in objects()}
    for _, pod in pods():
        for volume in pod["volumes"]:
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in rendered
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in rendered


# ------------------------------------------------------------------------------------------------------- the commands


def commands() -> dict[str, list[str]]:
    """Every command line of hpbandster-lite in the composition and the manifests, by its place."""
    found = {}
    for name, service in composition()["services"].items():
        found[f"compose {name}"] = shlex.split(service["command"])
        if "healthcheck" in service:
            found[f"compose {name} health"] = service["healthcheck"]["test"][1:]
    for name, pod in pods():
        for container in pod["containers"]:
            found[name] = container["args"]
            for probe in ("readinessProbe", "livenessProbe"):
                if probe in container:
                    found[f"{name} {probe}"] = container[probe]["exec"]["command"]
    return found


@pytest.mark.parametrize("where", sorted(commands()))
def test_every_command_is_one_of_the_product_with_options_that_it_has(where: str) -> None:
    program, *rest = commands()[where]
    name, *arguments = rest if program == "hpbandster-lite" else [program, *rest]
    group: Any = typer.main.get_command(make_app(name))
    context = group.commands[name].make_context(name, list(arguments))
    # Unknown options go to the problem, and digits has no options.
    assert context.args == []


def test_every_worker_and_master_gets_the_same_run() -> None:
    services = composition()["services"]
    passed = [services[name]["environment"] for name in ("master", "worker", "worker-gpu")]
    passed = [{key: value for key, value in each.items() if key.startswith("HPBANDSTER_LITE_")} for each in passed]
    assert passed[0] == passed[1] == passed[2]
    assert set(passed[0]) == {f"HPBANDSTER_LITE_{name}" for name in PASSED}
    made = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
    literals = [line.partition("=")[0] for line in made["configMapGenerator"][0]["literals"]]
    assert set(literals) == {"PROBLEM", *passed[0]}


# ---------------------------------------------------------------------------------------- users, signals and restarts


@pytest.mark.parametrize("name", sorted(composition()["services"]))
def test_no_service_is_root_or_may_become_it_and_each_has_time_to_save(name: str) -> None:
    service = composition()["services"][name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) >= GRACE_S
    assert service["restart"] == ("unless-stopped" if name == "nameserver" else "on-failure")


def test_only_services_with_a_profile_reserve_gpus() -> None:
    services = composition()["services"]
    reserves = {name: "resources" in service.get("deploy", {}) for name, service in services.items()}
    assert {name for name in services if reserves[name]} == {name for name in services if "profiles" in services[name]}


@pytest.mark.parametrize(("name", "pod"), list(pods()), ids=lambda value: value if isinstance(value, str) else "")
def test_no_pod_is_root_or_may_become_it(name: str, pod: dict[str, Any]) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["fsGroup"] == 10_001
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}, name
    # The master refuses a volume that is opened to the group with every new pod.
    claims = any("persistentVolumeClaim" in volume for volume in pod["volumes"])
    assert context.get("fsGroupChangePolicy") == ("OnRootMismatch" if claims else None)


@pytest.mark.parametrize("job", list(objects("Job")), ids=lambda job: job["metadata"]["name"])
def test_a_job_completes_only_with_0_and_fails_only_with_a_wrong_option(job: dict[str, Any]) -> None:
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a policy for failures requires it
    assert pod["terminationGracePeriodSeconds"] >= GRACE_S
    rules = {
        (rule["action"], tuple(rule["onExitCodes"]["values"]))
        for rule in spec["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert rules == {("FailJob", (UsageError.exit_code,)), ("Ignore", (REQUEUE, INTERRUPTED))}
    assert {"type": "DisruptionTarget", "status": "True"} in spec["podFailurePolicy"]["rules"][-1]["onPodConditions"]


def test_workers_are_an_indexed_job_that_may_grow_and_shrink() -> None:
    (job,) = (job for job in objects("Job") if job["metadata"]["name"].endswith("workers"))
    assert job["spec"]["completionMode"] == "Indexed"
    # Kubernetes allows changes of both numbers of a running Job if they are equal.
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


# ------------------------------------------------------------------------------------------------------------- images


def test_the_two_images_differ_in_torch_and_in_their_labels() -> None:
    service, worker = (file.read_text("utf-8").splitlines() for file in DOCKERFILES)
    differing = [pair for pair in zip(service, worker, strict=True) if pair[0] != pair[1]]
    assert [pair for pair in differing if "title=" not in pair[0] and "description=" not in pair[0]][2:] == [
        ("RUN python3 requirements.py > requirements.txt \\", "RUN python3 requirements.py torch > requirements.txt \\")
    ]
    assert [pair[0][:2] for pair in differing[:2]] == ["# ", "# "]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_starts_from_a_replaceable_base_and_ends_with_a_numeric_user(file: Path) -> None:
    text = file.read_text("utf-8")
    assert re.findall(r"^(ARG BASE=.*|FROM .*)$", text, re.MULTILINE) == ["ARG BASE=python:3.11-slim", "FROM ${BASE}"]
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ARG VERSION=(.*)$", text, re.MULTILINE) == [__version__]
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)", text))
    assert labels >= {"title", "description", "licenses", "version", "revision"}
    steps = [line for line in text.splitlines() if line.startswith(("COPY ", "RUN "))]
    assert steps[-2:] == ["COPY hpbandster_lite hpbandster_lite", "RUN pip install --no-deps --no-build-isolation ."]
    libraries = [number for number, step in enumerate(steps) if step.startswith("RUN python3 requirements.py")]
    assert libraries == [2], "installed before any code is copied"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_every_package_and_every_file_that_setup_cfg_reads_is_copied(file: Path) -> None:
    sources = copied(file)
    folders = {line.replace(" ", "").partition("=")[2] for line in lines(setup()["options"]["package_dir"])}
    for folder in {"hpbandster_lite", *folders}:
        assert any(Path(folder).is_relative_to(source) for source in sources), f"{folder} is not copied"
    assert {"README.md", "LICENSE", "pyproject.toml", "setup.cfg", "constraints.txt"} <= sources
    assert all((REPOSITORY / source).exists() for source in sources)


def copied(file: Path) -> set[str]:
    """The files that a Dockerfile copies from its context."""
    steps = re.findall(r"^COPY (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {word for step in steps for word in step.split()[:-1]}


def test_the_context_of_the_images_is_what_they_copy_and_nothing_else() -> None:
    ignored = lines((REPOSITORY / ".dockerignore").read_text("utf-8"))
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied(DOCKERFILES[0])


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="what torch brings is known where it is")
def test_every_library_that_the_images_install_is_pinned() -> None:
    pinned = {
        Requirement(line).name.lower().replace("_", "-")
        for name in ("constraints.txt", "deploy/docker/pins.txt")
        for line in lines((REPOSITORY / name).read_text("utf-8"))
    }
    installed = set(required(output_of(sys.executable, IMAGES / "requirements.py", "torch").splitlines()))
    assert {"torch", "scipy"} <= installed
    # A release of torch pins its own libraries, which differ between its builds.
    assert {name for name in installed if not name.startswith(("nvidia-", "cuda-", "triton"))} <= pinned


def required(requirements: list[str]) -> Iterator[str]:
    """Names of all packages that these requirements install, as found here."""
    left, known = [Requirement(line) for line in requirements], set[str]()
    while left:
        requirement = left.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in known or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        known.add(name)
        yield name
        left += [Requirement(line) for line in metadata.distribution(requirement.name).requires or []]


def test_the_small_image_requires_no_torch() -> None:
    small, large = (output_of(sys.executable, IMAGES / "requirements.py", *extra) for extra in ((), ("torch",)))
    assert "torch" not in small
    assert {"torch >= 2.4", "torchvision"} <= set(large.splitlines())
    assert set(small.splitlines()) <= set(large.splitlines())


@pytest.mark.parametrize("file", [IMAGES / "problems" / "digits.toml", KUBERNETES / "problems" / "search.toml"])
def test_the_search_files_that_are_shipped_are_searches(file: Path) -> None:
    assert read_search_file(file).problem == "digits"


def test_no_key_can_be_committed_or_sent_to_an_engine() -> None:
    for place in (".env", "secrets/run.key", "deploy/kubernetes/keys/run.key"):
        output_of("git", "check-ignore", "--no-index", "--quiet", place)
