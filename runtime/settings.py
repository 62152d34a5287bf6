"""Reading settings from the environment, with a sentence for whatever is wrong."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, AmqpDsn, Field, TypeAdapter, UrlConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.redaction import secrets_of
from runtime.supervision import Misconfigured

_AMQP_URL: TypeAdapter[Any] = TypeAdapter(Annotated[AmqpDsn, UrlConstraints(host_required=True)])


def _check_amqp_url(text: str) -> str:
    _AMQP_URL.validate_python(text)
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
AmqpUrl = Annotated[str, AfterValidator(_check_amqp_url)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class ProcessSettings(BaseSettings):
    """What every process of ours can be told."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    amqp_url: AmqpUrl = Field("amqp://guest:guest@127.0.0.1:5672/", description="The broker.")
    log_level: LogLevel = Field("INFO", description="What is logged, from DEBUG to ERROR.")
    drain_timeout: Seconds = Field(30.0, description="Seconds from SIGTERM to a stop by force, exit code 75.")
    admin_host: str = Field(
        "127.0.0.1",
        description="The address of the admin port; `0.0.0.0` where it is asked from outside a container.",
    )

    def secrets(self) -> frozenset[str]:
        """What must not be read anywhere: the passwords in URLs."""
        urls = (value for _, value in self if isinstance(value, str) and "://" in value)
        return frozenset[str]().union(*map(secrets_of, urls))


SettingsT = TypeVar("SettingsT", bound=ProcessSettings)


def load(settings: type[SettingsT]) -> SettingsT:
    """Read the settings once; raises Misconfigured, with one sentence for each wrong variable."""
    try:
        return settings()
    except ValidationError as exc:
        prefix = settings.model_config.get("env_prefix", "")
        raise Misconfigured("\n".join(_sentences(exc, prefix))) from exc


def _sentences(exc: ValidationError, prefix: str) -> list[str]:
    # Without the value: it may be a URL with a password.
    details = exc.errors(include_url=False, include_input=False, include_context=False)
    return [f"{prefix}{str(detail['loc'][0]).upper()} is wrong: {detail['msg']}" for detail in details]
