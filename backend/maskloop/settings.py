"""Every setting, read from the environment (or a ``.env`` file) once, at the start.

The names that Label Studio's own backends use (``LABEL_STUDIO_URL``, ``PORT``,
``BASIC_AUTH_USER`` ...) work as they are; everything else starts with ``MASKLOOP_``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import Self


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


def default_data_dir() -> Path:
    """``~/.local/share/maskloop``, or where XDG_DATA_HOME points."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "maskloop"


def default_models_dir() -> Path:
    """``models/`` of a checkout, else the models that came with the installed package."""
    checkout = Path(__file__).resolve().parents[2] / "models"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parent / "_models"


class Settings(BaseSettings):
    """What an operator can set. Nothing needs to be."""

    model_config = SettingsConfigDict(
        env_prefix="MASKLOOP_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    # Where it listens
    host: str = Field(
        "",
        validation_alias=_names("HOST", "MASKLOOP_HOST"),
        description="Address to listen on. Empty: 0.0.0.0 when credentials are set, else 127.0.0.1.",
    )
    port: int = Field(9090, validation_alias=_names("PORT", "MASKLOOP_PORT"), ge=1, le=65535, description="Port.")
    threads: int = Field(
        288,
        validation_alias=_names("THREADS", "MASKLOOP_THREADS"),
        ge=1,
        description="Request threads of a web process. With more than MASKLOOP_MAX_QUEUE a full queue is refused at "
        "once, and /health is answered whatever waits.",
    )
    log_level: str = Field(
        "INFO", validation_alias=_names("LOG_LEVEL", "MASKLOOP_LOG_LEVEL"), description="DEBUG, INFO, WARNING or ERROR."
    )

    # Who may ask
    basic_auth_user: str = Field(
        "",
        validation_alias=_names("BASIC_AUTH_USER", "MASKLOOP_BASIC_AUTH_USER"),
        description="User name Label Studio must send (Basic auth in the connection form). Empty: no check.",
    )
    basic_auth_pass: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names("BASIC_AUTH_PASS", "MASKLOOP_BASIC_AUTH_PASS"),
        description="The password that goes with BASIC_AUTH_USER.",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="If set, a webhook must carry it in the header X-MaskLoop-Secret (or valid Basic auth).",
    )

    # Label Studio
    label_studio_url: str = Field(
        "",
        validation_alias=_names("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST", "MASKLOOP_LABEL_STUDIO_URL"),
        description="Where MaskLoop reaches Label Studio, e.g. http://localhost:8080. Needed for uploaded images.",
    )
    label_studio_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names(
            "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN", "ACCESS_TOKEN", "MASKLOOP_LABEL_STUDIO_API_KEY"
        ),
        description="A personal access token or legacy token of Label Studio.",
    )
    image_hosts: str = Field(
        "",
        description="Hosts that images may be fetched from besides Label Studio's own, comma separated: host (usual "
        "ports), host:port, *.domain or *. A host named in full may have a private address.",
    )
    local_files_root: Path | None = Field(
        None, description="Folder that tasks may name files in by path. Unset: no local file is ever read."
    )

    # Model
    model: str = Field("clicknet", description="Name of a model in the models folder.")
    models_dir: Path = Field(default_factory=default_models_dir, description="Folder of models.")
    data_dir: Path = Field(
        default_factory=default_data_dir,
        validation_alias=_names("MASKLOOP_DATA_DIR", "MODEL_DIR"),
        description="Folder for everything MaskLoop writes: ledger, versions, caches.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$", description="auto, cpu, cuda or cuda:N.")
    inference_threads: int = Field(0, ge=0, description="CPU threads of the model. 0: all cores.")

    # Gestures
    box_memory_seconds: float = Field(
        7.0,
        ge=0,
        le=60,
        description="How long a box is remembered for the clicks that correct it, until Label Studio's draft "
        "carries it. 0 where several people open the same task.",
    )
    correct_in_place: bool = Field(
        False,
        description="Ctrl+click corrects an existing mask in place. Use with Auto-Accept on (see docs/gestures.md).",
    )

    # Limits
    deadline_seconds: float = Field(10.0, gt=0, le=90, description="A click is answered or refused within this time.")
    batch_deadline_seconds: float = Field(
        60.0, gt=0, le=95, description="What is not predicted by then is finished in the background and pushed."
    )
    max_queue: int = Field(256, ge=1, description="Waiting clicks beyond which a click is refused with 503.")
    max_body_mb: int = Field(256, ge=1, description="Largest request body, in MB.")
    max_image_mb: int = Field(64, ge=1, description="Largest image file, in MB.")
    max_image_megapixels: int = Field(100, ge=1, description="Largest image, in megapixels.")
    max_tasks: int = Field(10_000, ge=1, description="Most tasks in one request.")
    fetch_timeout_seconds: float = Field(20.0, gt=0, description="Longest an image download may take.")

    # Caches
    embedding_ram_mb: int = Field(384, ge=0, description="Embeddings kept in memory, in MB.")
    embedding_disk_mb: int = Field(4096, ge=0, description="Embeddings kept on disk (or Redis), in MB.")
    image_disk_mb: int = Field(2048, ge=0, description="Downloaded images kept on disk, in MB.")
    prepare_ahead: int = Field(3, ge=0, description="How many of the following tasks are prepared when one is opened.")

    # Scaling out
    redis_url: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names("REDIS_URL", "MASKLOOP_REDIS_URL"),
        description="Redis for the worker queue. Unset: one command does everything.",
    )
    job_limit_seconds: float = Field(
        120.0, ge=10, description="A worker that makes no progress for longer hangs; it is killed and restarted."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias=_names("DATABASE_URL", "MASKLOOP_DATABASE_URL"),
        description="SQLAlchemy URL of the ledger. Unset: SQLite in the data folder.",
    )

    # Learning
    train: bool = Field(True, description="Retrain from submitted annotations; off: only when a person asks for it.")
    train_after: int = Field(10, ge=1, description="New submissions that start a training.")
    train_cooldown_seconds: float = Field(300.0, ge=0, description="Least time between two trainings of a project.")
    train_minutes: float = Field(20.0, gt=0, description="Longest a training may take.")
    train_memory_mb: int = Field(4096, ge=256, description="Most memory a training may take, in MB.")
    poll_seconds: float = Field(
        300.0, ge=0, description="How often Label Studio is asked for submissions whose events were lost. 0: never."
    )
    sync_model_version: bool = Field(
        True, description="Set the project's model version in Label Studio after a promotion, so that scores show."
    )

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("label_studio_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        check_url(value, "http", "https")
        return value.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr) -> SecretStr:
        check_url(value.get_secret_value(), "redis", "rediss", "unix")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_address(cls, value: SecretStr) -> SecretStr:
        check_url(value.get_secret_value(), "postgresql", "sqlite")
        return value

    @model_validator(mode="after")
    def _whole_credentials(self) -> Self:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass.get_secret_value()):
            raise ValueError("BASIC_AUTH_USER and BASIC_AUTH_PASS go together, but only one of them is set")
        return self

    @property
    def has_credentials(self) -> bool:
        return bool(self.basic_auth_user and self.basic_auth_pass.get_secret_value())

    @property
    def listen_host(self) -> str:
        """Never an open door: other machines are let in only when a password is asked for."""
        return self.host or ("0.0.0.0" if self.has_credentials else "127.0.0.1")

    @property
    def allowed_image_hosts(self) -> frozenset[str]:
        return frozenset(host.strip().lower() for host in self.image_hosts.split(",") if host.strip())

    @property
    def ledger_url(self) -> str:
        return self.database_url.get_secret_value() or f"sqlite:///{self.data_dir / 'ledger.sqlite3'}"


def check_url(value: str, *schemes: str) -> None:
    """Refuse what is no URL of one of these schemes (``scheme+driver`` too), without saying it: it may be secret."""
    scheme = value.partition("://")[0].split("+")[0]
    try:
        parts = urlsplit(value)
        whole = "://" in value and (bool(parts.hostname) or "http" not in schemes) and parts.port != 0
    except ValueError:  # the port is no number
        whole = False
    if value and not (scheme in schemes and whole):
        raise ValueError(f"it must be a whole URL that starts with {' or '.join(f'{name}://' for name in schemes)}")


def environment_names() -> dict[str, tuple[str, ...]]:
    """Field name to the environment variables that set it, first the preferred one."""
    names: dict[str, tuple[str, ...]] = {}
    for name, info in Settings.model_fields.items():
        alias: Any = info.validation_alias
        if isinstance(alias, AliasChoices):
            names[name] = tuple(str(choice) for choice in alias.choices)
        else:
            names[name] = (f"MASKLOOP_{name.upper()}",)
    return names
