"""Every setting of the daemon in one frozen value, read once at start and passed explicitly.

Sources, the first that names a key wins: explicit overrides, `GORAX_<SECTION>__<KEY>` in the environment, the file that
`GORAX_DATABASE__<DSN>_FILE` names (secrets only), the TOML file, the default. A key that nobody knows is refused, in
the file and in the environment. `config/gorax.toml` documents each key; a test ties the two together.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gorax_engine.errors import ConfigurationError

DEFAULT_CONFIG_FILE: Final = Path("/etc/gorax/gorax.toml")
CONFIG_FILE_VARIABLE: Final = "GORAX_CONFIG"
APP_ROLE: Final = "gorax_app"
WORKER_ROLE: Final = "gorax_worker"

_PREFIX: Final = "GORAX_"
_FILE_SUFFIX: Final = "_FILE"
# Read by the command line and by processes of their parent: not settings, and not misspelt ones either.
_OTHER_VARIABLES: Final = frozenset(
    {CONFIG_FILE_VARIABLE, "GORAX_SERVER", "GORAX_API_KEY", "GORAX_SUPERVISOR", "GORAX_TEST_POSTGRES"}
)
# Kubernetes gives every pod the addresses of services: one named "gorax" or "gorax-api" must not stop the daemon.
_SERVICE_LINK: Final = re.compile(
    r"GORAX(_[A-Z0-9]+)*?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?", re.ASCII)
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.IGNORECASE
)


def parse_duration(value: object) -> float:
    """Return the seconds that `value` means: a number of seconds, or text such as "15s", "1m30s", "250ms", "2h".

    Raises ValueError.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        match = _DURATION.fullmatch(text)
        if text and match:
            hours, minutes, seconds, millis = (float(part or 0) for part in match.groups())
            return hours * 3600 + minutes * 60 + seconds + millis / 1000
        try:
            return float(text)
        except ValueError:
            pass
    raise ValueError('must be a number of seconds or a duration such as "15s" or "1m30s"')


def _split_list(value: object) -> object:
    """In the environment a list is text with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Seconds: TypeAlias = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=86_400, allow_inf_nan=False)]
"""A duration in seconds; written as a number of seconds or as "15s", "1m30s", "250ms"."""

Port: TypeAlias = Annotated[int, Field(ge=0, le=65_535)]
"""A TCP port; 0 lets the system choose."""

Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split_list)]
"""A list of words; in the environment they are separated by commas."""


class _Section(BaseModel):
    # hide_input: a bad DSN must not be printed by the error that refuses it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DatabaseSettings(_Section):
    """Where Postgres is. `dsn` alone serves where its user may switch to the engine's roles."""

    dsn: SecretStr | None = None
    app_dsn: SecretStr | None = None
    worker_dsn: SecretStr | None = None
    listen_dsn: SecretStr | None = None
    migrate_dsn: SecretStr | None = None
    pool_size: int = Field(default=10, ge=2, le=500)

    def for_app(self) -> tuple[str, str | None]:
        """Return the DSN for requests of tenants and the role to switch to. Raises ConfigurationError if unset."""
        return self._choose("app_dsn", APP_ROLE)

    def for_worker(self) -> tuple[str, str | None]:
        """Return the DSN for the engine and the role to switch to. Raises ConfigurationError if none is set."""
        return self._choose("worker_dsn", WORKER_ROLE)

    def for_listen(self) -> tuple[str, str | None]:
        """Return the DSN for LISTEN, which must not go through a transaction pooler; else the worker's.

        Raises ConfigurationError if none is set.
        """
        if self.listen_dsn is not None:
            return self.listen_dsn.get_secret_value(), None
        return self.for_worker()

    def for_migrate(self) -> tuple[str, str | None]:
        """Return the DSN of the schema's owner, direct, never with a role switch.

        Raises ConfigurationError if none is set.
        """
        return self._choose("migrate_dsn", None)

    def _choose(self, key: str, role: str | None) -> tuple[str, str | None]:
        explicit: SecretStr | None = getattr(self, key)
        if explicit is not None:
            return explicit.get_secret_value(), None
        if self.dsn is not None:
            return self.dsn.get_secret_value(), role
        raise ConfigurationError(
            f"No database is configured: set database.dsn (GORAX_DATABASE__DSN) or database.{key}.",
            code="database_not_configured",
        )


class ServerSettings(_Section):
    """The public port: API, webhooks, console."""

    host: str = "127.0.0.1"
    port: Port = 8080
    max_body_bytes: int = Field(default=1_048_576, ge=1_024, le=104_857_600)
    trusted_proxies: Names = ()

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            try:
                ip_network(entry)
            except ValueError:
                raise ValueError(f"`{entry}` is no IP address or network; write it like 10.0.0.0/8") from None
        return entries

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks whose X-Forwarded-For is believed."""
        return tuple(ip_network(entry) for entry in self.trusted_proxies)


class AdmissionSettings(_Section):
    """When a tenant's new work is refused with 429; 0: never. The tenant's quotas of these names take their place."""

    max_queued_executions: int = Field(default=100_000, ge=0, le=100_000_000)
    max_queue_age_seconds: int = Field(default=0, ge=0, le=31_536_000)


class ManagementSettings(_Section):
    """The port for metrics and health; process i of N listens on `port` + i."""

    host: str = "127.0.0.1"
    port: Port = 9464


class WorkerSettings(_Section):
    """How a worker process claims, holds and gives up executions. Durations in seconds."""

    slots: int = Field(default=200, ge=1, le=10_000)
    lease: Seconds = 15.0
    heartbeat: Seconds = 5.0
    poll: Seconds = 1.0
    drain_timeout: Seconds = 30.0

    @model_validator(mode="after")
    def _heartbeat_fits_lease(self) -> Self:
        if self.heartbeat * 2 > self.lease:
            raise ValueError("worker.heartbeat must be at most half of worker.lease, or one lost beat loses the lease")
        return self


class NodesSettings(_Section):
    """Which packages may add node types: distribution names. Others are not even imported."""

    plugins: Names = ()


class OutboundSettings(_Section):
    """Which hosts nodes may call. Private ranges are denied unless `allow` lists them; `deny` wins over `allow`."""

    allow: Names = ()
    deny: Names = ()

    @field_validator("allow", "deny")
    @classmethod
    def _are_networks_or_hosts(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            _check_network_or_host(entry)
        return entries


class CodeSettings(_Section):
    """The processes that run the scripts of `code` nodes: how many, how large, and when they end. Durations in seconds.

    They are started when scripts come, so a worker that runs none has none.
    """

    processes: int = Field(default=4, ge=1, le=64)
    memory_limit: int = Field(default=134_217_728, ge=2_097_152, le=4_294_967_296)
    idle_timeout: Seconds = 60.0


class VaultSettings(_Section):
    """Where the key for credentials is: a file that only the daemon's user may read. Without it none can be stored."""

    key_file: Path | None = None


class LogSettings(_Section):
    """How the daemon logs. `auto` is `console` on a terminal and `json` elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console", "auto"] = "auto"


class Settings(_Section):
    """All settings. Made by `load_settings`; secrets never show in its repr."""

    database: DatabaseSettings = DatabaseSettings()
    server: ServerSettings = ServerSettings()
    management: ManagementSettings = ManagementSettings()
    admission: AdmissionSettings = AdmissionSettings()
    worker: WorkerSettings = WorkerSettings()
    nodes: NodesSettings = NodesSettings()
    outbound: OutboundSettings = OutboundSettings()
    code: CodeSettings = CodeSettings()
    vault: VaultSettings = VaultSettings()
    log: LogSettings = LogSettings()
    state_dir: Path = Path(".gorax")


def load_settings(config_file: Path | None = None, **overrides: Any) -> Settings:
    """Read all sources and return the settings.

    `config_file` (or else `GORAX_CONFIG`) must exist; `/etc/gorax/gorax.toml` is read if it is there. Overrides are
    by section: `load_settings(server={"port": 0}, state_dir=path)`. Raises ConfigurationError, one sentence that names
    the key, where it was read and the mend.
    """
    known = known_keys()
    path = _config_path(config_file)
    # Weakest first: a later source replaces, in `values` as in `origins`.
    sources: list[tuple[str, Mapping[str, object]]] = []
    if path is not None:
        sources.append((f" in {path}", _refuse_unknown(dict(_flatten(_read_toml(path))), known, f"in {path}")))
    sources.append((" from its file", _read_secret_files(known)))
    sources.append((" in the environment", _read_environment(known)))
    sources.append(("", _refuse_unknown(dict(_flatten(overrides)), known, "given to load_settings")))
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for origin, found in sources:
        values.update(found)
        origins.update(dict.fromkeys(found, origin))
    try:
        return Settings.model_validate(_nest(values))
    except ValidationError as error:
        raise ConfigurationError(_sentence(error, origins), code="invalid_settings") from None


def known_keys() -> dict[str, str]:
    """Return every setting's dotted key (`worker.lease`) with the name of its environment variable."""
    keys: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key in section.model_fields:
                keys[f"{name}.{key}"] = f"{_PREFIX}{name}__{key}".upper()
        else:
            keys[name] = f"{_PREFIX}{name}".upper()
    return keys


def secret_keys() -> frozenset[str]:
    """Return the dotted keys whose value may also come from the file that `<VARIABLE>_FILE` names."""
    return frozenset(f"database.{name}" for name in DatabaseSettings.model_fields if name.endswith("dsn"))


def _check_network_or_host(entry: str) -> None:
    if "/" in entry or ":" in entry:
        try:
            ip_network(entry)
        except ValueError as error:
            raise ValueError(f"{entry!r} is neither a network (10.0.0.0/8) nor a host name: {error}") from None
    elif not _HOST.fullmatch(entry):
        raise ValueError(f"{entry!r} is neither a network (10.0.0.0/8) nor a host name")


def _config_path(explicit: Path | None) -> Path | None:
    if explicit is not None:
        return explicit
    named = os.environ.get(CONFIG_FILE_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.exists() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"The configuration file {path} can't be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration file {path} is not valid TOML: {error}.") from error


def _read_environment(known: Mapping[str, str]) -> dict[str, object]:
    by_variable = {variable: key for key, variable in known.items()}
    files = {known[key] + _FILE_SUFFIX for key in secret_keys()}
    found: dict[str, object] = {}
    for variable, value in os.environ.items():
        if variable in by_variable:
            found[by_variable[variable]] = value
        elif (
            variable.startswith(_PREFIX)
            and variable not in _OTHER_VARIABLES
            and variable not in files
            and not _SERVICE_LINK.fullmatch(variable)
        ):
            raise _unknown(variable, [*by_variable, *files], "in the environment")
    return found


def _read_secret_files(known: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key in secret_keys():
        variable = known[key] + _FILE_SUFFIX
        named = os.environ.get(variable)
        if named:
            try:
                found[key] = Path(named).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{variable} names {named}, which can't be read: {error}.") from error
    return found


def _flatten(tree: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            for key, inner in cast("Mapping[str, object]", value).items():
                yield f"{name}.{key}", inner
        else:
            yield name, value


def _nest(values: Mapping[str, object]) -> dict[str, object]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            tree.setdefault(section, {})[name] = value
        else:
            tree[name] = value
    return tree


def _refuse_unknown(found: dict[str, object], known: Mapping[str, str], where: str) -> dict[str, object]:
    for key in found:
        if key not in known:
            raise _unknown(key, list(known), where)
    return found


def _unknown(key: str, candidates: list[str], where: str) -> ConfigurationError:
    nearest = get_close_matches(key, candidates, n=1, cutoff=0.0)
    return ConfigurationError(
        f"There is no setting {key} ({where}); the nearest is {nearest[0]}.", code="unknown_setting"
    )


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        key = ".".join(str(part) for part in fault["loc"][:2])
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"the setting {key}{origins.get(key, '')} is not valid: {message[:1].lower()}{message[1:]}")
    text = "; ".join(faults)
    return f"{text[:1].upper()}{text[1:]}."
