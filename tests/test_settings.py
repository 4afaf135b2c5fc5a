"""Where settings come from, which names work, and what is refused."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from maskloop.settings import Settings, environment_names


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that runs the tests, and no .env of the checkout."""
    for names in environment_names().values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings()
    assert settings.listen_host == "127.0.0.1"
    assert settings.port == 9090
    assert not settings.has_credentials
    assert settings.local_files_root is None
    assert settings.ledger_url == f"sqlite:///{settings.data_dir / 'ledger.sqlite3'}"


EXAMPLES = {
    "log_level": "ERROR",
    "device": "cuda:1",
    "label_studio_url": "https://labels.example:8443",
    "redis_url": "rediss://:secret@redis.example:6380/2",
    "database_url": "postgresql+psycopg://me:secret@/db?host=/run/postgresql",
}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for field, names in environment_names().items() for name in names]
)
def test_every_name_sets_its_field(name: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = getattr(Settings(), field)
    plain = default.get_secret_value() if isinstance(default, SecretStr) else default
    if isinstance(plain, bool):
        given: object = not plain
    elif isinstance(plain, int | float):
        given = plain + 1
    else:
        given = EXAMPLES.get(field, f"/tmp/{field}")
    for other, partner in (("basic_auth_user", "BASIC_AUTH_PASS"), ("basic_auth_pass", "BASIC_AUTH_USER")):
        if field == other:
            monkeypatch.setenv(partner, "given")
    monkeypatch.setenv(name, str(given))
    value = getattr(Settings(), field)
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    assert str(value) == str(given)


def test_the_environment_comes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1234\nMASKLOOP_MODEL=graphcut\n")
    monkeypatch.setenv("PORT", "4321")
    settings = Settings()
    assert settings.port == 4321
    assert settings.model == "graphcut"


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass empty variables; an empty folder must not mean the current one."""
    unset = Settings()
    for names in environment_names().values():
        monkeypatch.setenv(names[0], "")
    assert Settings() == unset
    assert Settings().local_files_root is None


def test_other_machines_are_let_in_only_with_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().listen_host == "127.0.0.1"
    monkeypatch.setenv("BASIC_AUTH_USER", "studio")
    monkeypatch.setenv("BASIC_AUTH_PASS", "sesame")
    assert Settings().listen_host == "0.0.0.0"
    monkeypatch.setenv("HOST", "10.1.2.3")
    assert Settings().listen_host == "10.1.2.3"


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "studio")
    for name in ("BASIC_AUTH_PASS", "MASKLOOP_WEBHOOK_SECRET", "LABEL_STUDIO_API_KEY"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("REDIS_URL", "redis://:hush-hush@localhost")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hush-hush@localhost/db")
    assert "hush-hush" not in repr(Settings())
    assert "hush-hush" not in str(Settings().model_dump())


def test_a_slash_after_the_url_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://localhost:8080/")
    assert Settings().label_studio_url == "http://localhost:8080"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "90900"),
        ("PORT", "ninety"),
        ("LOG_LEVEL", "LOUD"),
        ("MASKLOOP_BOX_MEMORY_SECONDS", "61"),
        ("MASKLOOP_DEADLINE_SECONDS", "0"),
        ("MASKLOOP_BATCH_DEADLINE_SECONDS", "100"),
        ("MASKLOOP_TRAIN_AFTER", "0"),
        ("MASKLOOP_CORRECT_IN_PLACE", "perhaps"),
        ("MASKLOOP_DEVICE", "gpu"),
        ("LABEL_STUDIO_URL", "localhost:8080"),
        ("LABEL_STUDIO_URL", "ftp://localhost"),
        ("LABEL_STUDIO_URL", "http://localhost:eighty"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://localhost:port/0"),
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "mysql://localhost/db"),
        ("BASIC_AUTH_USER", "alone"),
        ("BASIC_AUTH_PASS", "alone"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert name.removeprefix("MASKLOOP_").lower() in str(refused.value).lower()
