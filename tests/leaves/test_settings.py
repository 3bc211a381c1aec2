"""Settings: read from the environment, checked together, refused in one sentence."""

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.settings import Settings, filesystem_transport, without_password


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ORCHESTRATOR_{name.upper()}", raising=False)


def test_without_any_variable_the_defaults_stand() -> None:
    settings = Settings()

    assert settings.database_url == "postgresql://localhost/orchestrator"
    assert settings.lease == timedelta(seconds=30)
    assert settings.key_keep == timedelta(days=30)


def test_variables_are_read_and_empty_ones_count_as_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LEASE", "5s")
    monkeypatch.setenv("ORCHESTRATOR_MAX_DEATHS", "5")
    monkeypatch.setenv("ORCHESTRATOR_QUEUE", "")

    settings = Settings()

    assert settings.lease == timedelta(seconds=5)
    assert settings.max_deaths == 5
    assert settings.queue == "orchestrator"


def test_values_given_by_hand_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_LEASE", "5s")

    assert Settings(lease="7s").lease == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1500ms", 1.5),
        ("30s", 30),
        ("1.5m", 90),
        ("2h", 7200),
        ("7 d", 604800),
        ("45", 45),
        (45, 45),
        (2.5, 2.5),
        ("PT1M", 60),
        (timedelta(minutes=1), 60),
    ],
)
def test_durations_are_written_as_people_write_them(written: object, seconds: float) -> None:
    given = {"keep": written, "key_keep": "30d"}

    assert Settings(**given).keep == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"lease": "soon"}, "ORCHESTRATOR_LEASE is no duration; write it as 500ms, 30s, 5m, 2h"),
        ({"lease": "9" * 30 + "d"}, "ORCHESTRATOR_LEASE is no duration"),
        ({"lease": "0s"}, "ORCHESTRATOR_LEASE must be longer than nothing"),
        ({"lease": "900ms"}, "lease must be at least 1 second"),
        ({"max_deaths": 0}, "ORCHESTRATOR_MAX_DEATHS: Input should be greater than or equal to 1"),
        ({"queue": "a b"}, "ORCHESTRATOR_QUEUE must be 1 to 200 letters"),
        ({"database_url": "mysql://h/d"}, "ORCHESTRATOR_DATABASE_URL is no PostgreSQL address"),
        ({"database_url": "postgresql://h:x/d"}, "ORCHESTRATOR_DATABASE_URL names a port that is"),
        ({"database_url": "postgresql://u:p@[::1]:x/d"}, "special characters of a password as %"),
        ({"broker_url": "amqp://u:p#w@h//"}, "ORCHESTRATOR_BROKER_URL names a port that is no"),
        ({"broker_url": "redis://h"}, "ORCHESTRATOR_BROKER_URL is no broker address"),
        ({"broker_url": "filesystem://x"}, "ORCHESTRATOR_BROKER_URL names no folder"),
        ({"lost_after": "2s"}, r"unsent_after \(0:00:05\) must not exceed lost_after \(0:00:02\)"),
        ({"keep": "31d"}, "keep .* must not exceed key_keep .*: a key outlives its execution"),
        ({"leese": "1s"}, "leese is no setting; did you mean lease"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        Settings(**given)


def test_a_misspelt_variable_is_refused_with_the_near_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_DATABSE_URL", "postgresql://h/d")
    monkeypatch.setenv("ORCHESTRATOR_XYZZY", "1")
    monkeypatch.setenv("ORCHESTRATOR_TEST_DATABASE_URL", "ignored")

    with pytest.raises(InvalidInput) as caught:
        Settings()

    assert str(caught.value) == (
        "ORCHESTRATOR_DATABSE_URL is no setting; did you mean ORCHESTRATOR_DATABASE_URL?; "
        "ORCHESTRATOR_XYZZY is no setting"
    )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().lease = timedelta(seconds=1)  # type: ignore[misc]


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "url", ["h", "h/d", "h:5432/d", "u:p:w@h/d", "u:a/b:c@h:1/d", "[::1]:5432/d", "h/d?x=a:b@c", ""]
)
def test_addresses_with_and_without_a_port_are_taken(url: str) -> None:
    assert Settings(database_url=f"postgres://{url}").database_url == f"postgresql://{url}"


def test_passwords_appear_in_no_text() -> None:
    settings = Settings(
        database_url="postgres://me:hid/den:p@ss@h/d?sslpassword=hidden2",
        broker_url="amqp://me:hidden@h//",
    )

    assert settings.database_url.startswith("postgresql://me:hid/den:p@ss@h/d")
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "hid" not in text
    with pytest.raises(InvalidInput) as caught:
        Settings(database_url="mysql://me:hidden@h/d", lease="x")
    assert "hidden" not in str(caught.value)
    assert without_password("postgresql://h/d") == "postgresql://h/d"


def test_a_folder_as_broker_gives_the_options_of_its_transport(tmp_path: Path) -> None:
    options = filesystem_transport(f"filesystem://{tmp_path}/a%20b/")

    assert options["data_folder_in"] == options["data_folder_out"] == f"{tmp_path}/a b/messages"
    assert options["control_folder"] == f"{tmp_path}/a b/control"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="names no folder"):
        filesystem_transport("filesystem://")


def test_only_behind_a_pooler_silence_has_to_be_longer_than_beats() -> None:
    assert Settings(beat_interval="20s", outage_guard="60s").silent_after == timedelta(seconds=10)
    with pytest.raises(InvalidInput, match=r"silent_after .* at least two beats"):
        Settings(beat_interval="6s", transaction_pooling=True)
