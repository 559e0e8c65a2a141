"""Who uses the box, and what their role allows.

It reads and writes the table of users; PINs and guesses are `people.py`.
Source: HIPAA 45 CFR 164.312(a) (unique user, automatic logoff, emergency access); roles in `DESIGN.md`.
"""

import sqlite3
from dataclasses import dataclass, field
from typing import Final, Literal

from appliance.records.errors import ForbiddenError

Role = Literal["nurse", "lead", "clinician", "technician"]
Permission = Literal["capture", "read", "assess", "export", "erase", "witness", "people", "backup", "update", "audit"]
PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    "nurse": frozenset({"capture", "read", "assess", "witness", "backup"}),
    "lead": frozenset(
        {"capture", "read", "assess", "export", "erase", "witness", "people", "backup", "update", "audit"}
    ),
    "clinician": frozenset({"read"}),
    "technician": frozenset({"backup", "update"}),
}
"""A technician reads no record; a clinician comes over the LAN and reads what was referred. "witness": confirm what a
lead proposes to erase; nurses too, so that a clinic with one lead can do what the law asks of it."""
_COLUMNS: Final = "user_id, name, role, pin_hash, is_active"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who may sign in."""

    user_id: str
    name: str
    role: Role
    pin_hash: str = field(repr=False)
    """Empty when the PIN must be set anew."""
    is_active: bool

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return self.is_active and permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Insist on a permission.

        Raises:
            ForbiddenError: The role does not allow it.
        """
        if not self.may(permission):
            raise ForbiddenError(f"{self.name} may not do this; ask the lead.")


def insert_user(connection: sqlite3.Connection, user: User, sequence: int) -> None:
    """Write a new user, inside the caller's transaction."""
    connection.execute(
        f"INSERT INTO user ({_COLUMNS}, sequence) VALUES (?, ?, ?, ?, ?, ?)",
        (user.user_id, user.name, user.role, user.pin_hash, int(user.is_active), sequence),
    )


def update_user(connection: sqlite3.Connection, user: User, sequence: int) -> None:
    """Write a changed user, inside the caller's transaction."""
    connection.execute(
        "UPDATE user SET name = ?, role = ?, pin_hash = ?, is_active = ?, sequence = ? WHERE user_id = ?",
        (user.name, user.role, user.pin_hash, int(user.is_active), sequence, user.user_id),
    )


def select_users(connection: sqlite3.Connection) -> tuple[User, ...]:
    """Read all users, those who left included."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM user ORDER BY name")
    return tuple(
        User(user_id=one[0], name=one[1], role=one[2], pin_hash=one[3], is_active=bool(one[4])) for one in found
    )
