"""The two files that hold credentials."""

import binascii
import fcntl
import os
import re
import tempfile
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE, S_IRGRP, S_IRUSR, S_IRWXO, S_IWUSR
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from contract.event import NotJson, encode_json, parse_json
from contract.fields import RULES as FIELD_RULES
from contract.fields import ProjectId, Timestamp, format_timestamp
from ingest.api_keys import KEY_ID_LENGTH, ApiKey, Keyring
from ingest.signatures import Secrets, SigningSecret

SECRET_BYTES: Final = range(24, 65)
"""How long a signing secret is, by Standard Webhooks."""

SECRETS_PER_PROJECT: Final = 8
"""Each is tried on every signed request of the project; a rotation needs two."""

_PROBLEMS_SHOWN: Final = 3
_PLACE_IN_JSON: Final = re.compile(r"at line \d+ column \d+$")
_HARMLESS_NAME: Final = re.compile(r"[A-Za-z_]{1,24}", re.ASCII)
_PROJECT_ID: Final[TypeAdapter[str]] = TypeAdapter(ProjectId)


class CredentialsUnusable(Exception):
    """A file of credentials cannot be read or written; the text says why, and quotes nothing of it."""


def _parse_projects(value: object) -> tuple[str, ...] | Literal["all"]:
    if value == "all":
        return "all"
    if not isinstance(value, list) or not value:
        raise ValueError
    return tuple(dict.fromkeys(_PROJECT_ID.validate_python(item) for item in value))


def _parse_secret(value: object) -> bytes:
    if not isinstance(value, str) or not value.startswith("whsec_"):
        raise ValueError
    text = value.removeprefix("whsec_").rstrip("=")
    try:
        secret = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError from None
    if len(secret) not in SECRET_BYTES:
        raise ValueError
    return secret


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _optional(value: object) -> object:
    return None if value is None else _TIMESTAMP.validate_python(value)


_TIMESTAMP: Final[TypeAdapter[Any]] = TypeAdapter(Timestamp)
_AS_TEXT: Final = PlainSerializer(format_timestamp, when_used="unless-none")
Projects = Annotated[tuple[str, ...] | Literal["all"], PlainValidator(_parse_projects)]
Moment = Annotated[Timestamp, _AS_TEXT]
Expiry = Annotated[Timestamp | None, PlainValidator(_optional), _AS_TEXT]
Label = Annotated[str, StringConstraints(strict=True, max_length=100), AfterValidator(_printable)]

RULES: Final[Mapping[str, str]] = {
    "keys": "must be an array of keys",
    "secrets": "must be an array of secrets",
    "id": f"must be {KEY_ID_LENGTH} letters or digits",
    "sha256": "must be 64 hexadecimal digits in lower case",
    "projects": f'must be "all" or an array of project ids, of which each {FIELD_RULES["projectId"]}',
    "label": "must be a string of at most 100 printable characters",
    "createdAt": FIELD_RULES["timestamp"],
    "expiresAt": f"{FIELD_RULES['timestamp']}, or left out",
    "name": "must be 1 to 64 letters, digits, '.', '_' or '-'",
    "project": FIELD_RULES["projectId"],
    "secret": f"must be whsec_ with the Base64 of {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes",
}
"""What each field of the two files must be."""


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class KeyEntry(_Model):
    """One API key in its file."""

    id: Annotated[str, StringConstraints(strict=True, pattern=rf"^[0-9A-Za-z]{{{KEY_ID_LENGTH}}}$")]
    sha256: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")] = Field(repr=False)
    projects: Projects
    label: Label = ""
    created_at: Moment
    expires_at: Expiry = None

    def to_key(self) -> ApiKey:
        """What is needed of it to let callers in."""
        projects = None if self.projects == "all" else frozenset(self.projects)
        return ApiKey(self.id, bytes.fromhex(self.sha256), projects, self.expires_at)


class SecretEntry(_Model):
    """One signing secret in its file; `name` stands for it in logs."""

    name: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    project: ProjectId
    secret: Annotated[bytes, PlainValidator(_parse_secret)] = Field(repr=False)
    expires_at: Expiry = None


class KeysFile(_Model):
    """What INGEST_API_KEYS_FILE names."""

    keys: list[KeyEntry]


class SecretsFile(_Model):
    """What INGEST_SIGNING_SECRETS_FILE names."""

    secrets: list[SecretEntry]


def read_keys(path: Path) -> list[KeyEntry]:
    """Read the API keys; raises CredentialsUnusable."""
    entries = _read(path, KeysFile).keys
    _refuse_copies(path, "keys", "id", [entry.id for entry in entries])
    return entries


def load_keyring(path: Path) -> Keyring:
    """Read the API keys as what they are checked against; raises CredentialsUnusable."""
    return Keyring.of(entry.to_key() for entry in read_keys(path))


def load_secrets(path: Path) -> Secrets:
    """Read the signing secrets; raises CredentialsUnusable.

    No secret may stand there twice: the path of a request is not signed, so what was signed for one project would be
    taken for every other one with the same secret.
    """
    entries = _read(path, SecretsFile).secrets
    _refuse_copies(path, "secrets", "name", [entry.name for entry in entries])
    _refuse_copies(path, "secrets", "secret", [entry.secret for entry in entries])
    by_project: dict[str, tuple[SigningSecret, ...]] = {}
    for index, entry in enumerate(entries):
        secret = SigningSecret(entry.name, entry.secret, entry.expires_at)
        by_project[entry.project] = (*by_project.get(entry.project, ()), secret)
        if len(by_project[entry.project]) > SECRETS_PER_PROJECT:
            raise CredentialsUnusable(
                f"{path}: secrets[{index}] is one of more than {SECRETS_PER_PROJECT} for a project"
            )
    return Secrets(MappingProxyType(by_project))


FileT = TypeVar("FileT", bound=_Model)


def _read(path: Path, model: type[FileT]) -> FileT:
    # "from None" here: the causes know what the file holds.
    try:
        return model.model_validate(parse_json(path.read_bytes()))
    except OSError as exc:
        raise CredentialsUnusable(f"{path} cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        raise CredentialsUnusable(f"{path}: {explain(exc)}") from None
    except NotJson as exc:
        place = _PLACE_IN_JSON.search(str(exc))
        raise CredentialsUnusable(f"{path} is not JSON{': wrong ' + place[0] if place else ''}") from None


def explain(error: ValidationError) -> str:
    """Say what is wrong where, without what stands there."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    sentences = list(dict.fromkeys(_sentence(detail) for detail in details))
    more = len(sentences) - _PROBLEMS_SHOWN
    return "; ".join(sentences[:_PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _sentence(detail: ErrorDetails) -> str:
    loc = detail["loc"][:3]
    name = str(loc[-1]) if loc and isinstance(loc[-1], str) else ""
    *parents, last = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc] or [".the whole"]
    if detail["type"] == "extra_forbidden":
        # Who mixes up names with values must not find a secret in the log.
        last = f".{name}" if _HARMLESS_NAME.fullmatch(name) else ".(a field)"
        return f"{_place(parents, last)} is not a known field"
    rule = RULES.get(name, "must be a JSON object")
    return f"{_place(parents, last)} {'is required: it ' if detail['type'] == 'missing' else ''}{rule}"


def _place(parents: Sequence[str], last: str) -> str:
    return "".join([*parents, last]).removeprefix(".")


def _refuse_copies(path: Path, array: str, name: str, values: Iterable[object]) -> None:
    seen: dict[object, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(value, index)
        if first != index:
            raise CredentialsUnusable(f"{path}: {array}[{index}].{name} must not be that of {array}[{first}]")


@contextmanager
def editing_keys(path: Path, *, create: bool = False) -> Iterator[list[KeyEntry]]:
    """Give out the keys of a file to be changed, then write them back, whole or not at all.

    One process at a time. A file that does not exist is an empty one if it may be created. Raises
    CredentialsUnusable.
    """
    path = path.resolve()  # a symbolic link stays one
    try:
        with _locked(path.parent):
            entries = [] if create and not path.exists() else read_keys(path)
            yield entries
            content = KeysFile(keys=entries).model_dump(by_alias=True, exclude_none=True)
            _replace(path, msgspec.json.format(encode_json(content), indent=2) + b"\n")
    except OSError as exc:
        raise CredentialsUnusable(f"{path} cannot be written: {exc.strerror}") from exc


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The directory, since the file is replaced; and a lock file would stay behind.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # the new name
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _inherit(path, descriptor)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _inherit(path: Path, descriptor: int) -> None:
    """Keep the owner, who may be the service; nobody else reads it but a group that was let in on purpose."""
    try:
        old = path.stat()
    except FileNotFoundError:
        return  # mkstemp made it 0600, and ours
    new = os.fstat(descriptor)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    on_purpose = not old.st_mode & S_IRWXO
    os.fchmod(descriptor, S_IRUSR | S_IWUSR | (S_IMODE(old.st_mode) & S_IRGRP if on_purpose else 0))
