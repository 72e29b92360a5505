"""Words that stand in files which the configuration names, so that it may be shown.

Law: read once, when they are needed; every problem is one line that names the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgecache.errors import ConfigError

from .config import Config, Secret


def archive_secret(config: Config) -> str:
    """Of the permanent store; "" without one. Raises ConfigError."""
    return _word("archive.secret_file", config.archive.secret_file)


def catalog_token(config: Config) -> str:
    """For the catalogue's servers; "" without one. Raises ConfigError."""
    return _word("catalog.token_file", config.catalog.token_file)


def hooks_secret(config: Config) -> str:
    """What hooks are signed with; "" without any. Raises ConfigError."""
    return _long("hooks.secret_file", config.hooks.secret_file)


def admin_token(config: Config) -> str:
    """Of the operators' door; "": none is wanted. Raises ConfigError."""
    return _long("admin.token_file", config.admin.token_file)


def _long(setting: str, file: Path | None) -> str:
    """Raises ConfigError also for one that could be guessed."""
    word = _word(setting, file)
    if file and len(word) < 16:
        raise ConfigError([f"{setting}: found {len(word)} characters, allowed 16 or more"])
    return word


def _word(setting: str, file: Path | None) -> str:
    """What stands in a file, "" without one. Raises ConfigError."""
    try:
        return file.read_text().strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        text = f"{setting}: found {file}: {reason}, allowed a readable file"
        raise ConfigError([text]) from None


def secrets_of(config: Config) -> dict[str, bytes]:
    """Key id -> secret bytes, in the file's order; files are read now. Raises ConfigError."""
    return _read("keys", config.keys, 16, 1024)


def passphrases_of(config: Config) -> dict[str, bytes]:
    """Stream (or "default") -> passphrase of SRT; files are read now. Raises ConfigError."""
    return _read("srt.passphrases", config.srt.passphrases, 10, 79)


def _read(setting: str, secrets: Mapping[str, Secret], least: int, most: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for name, secret in secrets.items():
        where = f"{setting}.{name}" + (".secret_file" if secret.secret_file else "")
        if secret.secret is not None:
            found[name] = secret.secret.get_secret_value().encode()
        elif secret.secret_file is not None:
            try:
                found[name] = secret.secret_file.read_bytes().strip()
            except OSError as error:
                problems.append(
                    f"{where}: found {secret.secret_file}: {error.strerror}, "
                    "allowed a readable file"
                )
                continue
        if not least <= len(found[name]) <= most:
            problems.append(f"{where}: found {len(found[name])} bytes, allowed {least} to {most}")
    if problems:
        raise ConfigError(problems)
    return found
