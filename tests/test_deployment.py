"""docker-compose.yml, the Dockerfile and the constraints, read as data: no engine runs here."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.settings import Settings
from orchestrator.workers import celeryconfig

ROOT = Path(__file__).parents[1]
SERVERS = {"postgres", "rabbitmq", "redis"}
PROGRAMS = {"worker", "beat", "flower"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return document


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def test_compose_holds_every_service(compose) -> None:
    assert {*SERVERS, *PROGRAMS, "migrate"} == set(compose["services"])


@pytest.mark.parametrize("name", sorted(SERVERS | PROGRAMS))
def test_service_is_watched_restarted_and_given_time_to_stop(compose, name: str) -> None:
    service = compose["services"][name]

    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"
    assert seconds(service["stop_grace_period"]) > 10  # the engine's own default


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_program_waits_for_healthy_servers_and_the_schema(compose, name: str) -> None:
    assert compose["services"][name]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "rabbitmq": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_schema_is_migrated_once_before_anything_runs(compose) -> None:
    migrate = compose["services"]["migrate"]

    assert migrate["command"] == ["orchestrator", "db", "upgrade"]
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert migrate["restart"] == "on-failure"


def test_worker_stops_softly_within_its_grace(compose) -> None:
    worker = compose["services"]["worker"]

    assert worker["environment"]["REMAP_SIGTERM"] == "SIGQUIT"
    soft = celeryconfig.worker_soft_shutdown_timeout
    assert seconds(worker["stop_grace_period"]) >= soft + 10


def test_everything_that_is_kept_lies_in_a_declared_volume(compose) -> None:
    used = {
        mount.partition(":")[0]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
    }

    assert used == set(compose["volumes"])
    for name in SERVERS | {"beat"}:
        assert compose["services"][name]["volumes"]


def test_nothing_is_published_beyond_this_host(compose) -> None:
    published = [port for one in compose["services"].values() for port in one.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_programs_are_told_settings_that_exist(compose) -> None:
    told = {
        name.removeprefix("ORCHESTRATOR_").lower()
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith("ORCHESTRATOR_")
    }

    assert {"database_url", "broker_url"} <= told <= set(Settings.model_fields)


def test_image_is_built_from_what_is_there_and_runs_without_root() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)

    assert sorted(copied) == sorted(let_in)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert any(re.fullmatch(r"USER (?!root)\w+", line) for line in lines)


def test_constraints_pin_every_dependency_and_name_no_host() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = {line.partition("==")[0] for line in text.splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    wanted = {
        re.match(r"[a-z0-9-]+", requirement)[0]
        for requirement in [*project["dependencies"], *extras]
    }

    assert wanted - {project["name"]} <= pinned
    assert "://" not in text
