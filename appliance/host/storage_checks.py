"""Whether this machine can store: the packages of the extra `records`, and what its SQLite can be trusted with."""

import sqlite3
from importlib.util import find_spec

from appliance.host.check import Check, ok, warning

_NEEDED = {"cryptography": "cryptography", "argon2": "argon2-cffi"}
"""Distribution by the module that it installs."""


def check_records(journal_mode: str, modules: dict[str, str] | None = None) -> Check:
    """Look for the packages that storing needs.

    Args:
        journal_mode: What the records choose for this machine's SQLite.
        modules: Instead of the real ones: distribution by module.
    """
    absent = [name for module, name in (modules or _NEEDED).items() if find_spec(module) is None]
    if absent:
        found = f"{', '.join(absent)} is not installed: photos are kept in memory only, and nothing is stored"
        return warning("Records", found, "Install it: pip install 'dermstation[records]'.")
    journal = {"wal": "a write-ahead log", "persist": "a rollback journal, which this version needs"}[journal_mode]
    return ok("Records", f"can be stored; SQLite {sqlite3.sqlite_version} with {journal}")
