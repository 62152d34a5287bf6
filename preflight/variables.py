"""Whether the environment's variables are settings, and what they may be."""

import os
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from preflight.check import Check
from runtime.settings import ProcessSettings, SettingsT, load
from runtime.supervision import Misconfigured

NAME = "settings"


def read_settings(kind: type[SettingsT]) -> tuple[SettingsT | None, list[Check]]:
    """Read them as the process does; None when one is wrong."""
    try:
        settings = load(kind)
    except Misconfigured as exc:
        return None, [_wrong(kind, sentence) for sentence in str(exc).splitlines()]
    return settings, [Check.ok(NAME, f"{len(settings.model_fields_set)} of {len(kind.model_fields)} are set")]


def _wrong(kind: type[ProcessSettings], sentence: str) -> Check:
    variable = sentence.split(maxsplit=1)[0]
    field = kind.model_fields[variable.removeprefix(_prefix(kind)).lower()]
    return Check.wrong(NAME, sentence, f"change {variable}, or unset it for its default, {field.default}")


def find_strangers(
    kind: type[ProcessSettings], others: Collection[str], environment: Mapping[str, str] = os.environ
) -> Iterator[Check]:
    """Yield each variable that looks like a setting and is none: misspelt, it would silently be without effect."""
    prefix = _prefix(kind)
    known = {f"{prefix}{name}".upper() for name in kind.model_fields}
    for name in sorted(environment):
        if name.upper().startswith(prefix) and name.upper() not in known and name not in others:
            nearest = get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "docs/settings.md lists all there are"
            yield Check.warning(NAME, f"{name} is no setting, and has no effect", f"unset it; {hint}")


def _prefix(kind: type[ProcessSettings]) -> str:
    return str(kind.model_config.get("env_prefix", ""))
