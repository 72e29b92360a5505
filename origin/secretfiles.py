"""Words that stand in files which the configuration names, so that it may be shown.

Law: read once, when they are needed; every problem is one line that names the setting.
"""

from __future__ import annotations

from pathlib import Path

from edgecache.errors import ConfigError

from .config import Config


def archive_secret(config: Config) -> str:
    """Of the permanent store; "" without one. Raises ConfigError."""
    return _word("archive.secret_file", config.archive.secret_file)


def catalog_token(config: Config) -> str:
    """For the catalogue's servers; "" without one. Raises ConfigError."""
    return _word("catalog.token_file", config.catalog.token_file)


def admin_token(config: Config) -> str:
    """Of the operators' door; "": none is wanted. Raises ConfigError."""
    token = _word("admin.token_file", config.admin.token_file)
    if config.admin.token_file and len(token) < 16:
        text = f"admin.token_file: found {len(token)} characters, allowed 16 or more"
        raise ConfigError([text])
    return token


def _word(setting: str, file: Path | None) -> str:
    """What stands in a file, "" without one. Raises ConfigError."""
    try:
        return file.read_text().strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        text = f"{setting}: found {file}: {reason}, allowed a readable file"
        raise ConfigError([text]) from None
