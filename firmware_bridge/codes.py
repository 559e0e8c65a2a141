"""Every number that the protocol gives a meaning. Source: PROTOCOL.md 2 and 5."""

from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """What a packet is for."""

    COMMAND = 1
    ACK = 2
    NAK = 3
    EVENT = 4
    EVENT_ACK = 5


class Opcode(IntEnum):
    """What a packet's payload is."""

    HELLO = 0x01
    HEARTBEAT = 0x02
    ILLUMINATION = 0x03
    TEMPERATURE = 0x04
    BATTERY = 0x05
    FIRMWARE = 0x06
    COUNTERS = 0x07
    UPDATE = 0x08
    SHUTTER = 0x41
    FOOT_SWITCH = 0x42
    LENS_CONTACT = 0x43
    LIGHT_OFF = 0x44


EVENTS = frozenset({Opcode.SHUTTER, Opcode.FOOT_SWITCH, Opcode.LENS_CONTACT, Opcode.LIGHT_OFF})


class NakReason(IntEnum):
    """Why a command was not carried out."""

    CORRUPT = 1
    OPCODE = 2
    LENGTH = 3
    VALUE = 4
    SESSION = 5
    VERSION = 6
    HOT = 7
    BATTERY = 8
    RESTING = 9
    UPDATE = 10


class IlluminationMode(IntEnum):
    """Which ring is lit."""

    OFF = 0
    WHITE = 1
    POLARISED = 2


class OffReason(IntEnum):
    """Why the light went off the last time."""

    NEVER_ON = 0
    ORDERED = 1
    TIME_LIMIT = 2
    HOST_SILENT = 3
    HOT = 4
    BATTERY = 5
    NEW_SESSION = 6
    CONTINUOUS = 7
    UPDATE = 8


class Inputs(IntFlag):
    """Switches that are closed, debounced."""

    SHUTTER = 1
    FOOT_SWITCH = 2
    LENS_CONTACT = 4


class Faults(IntFlag):
    """What is wrong with the device now."""

    NO_TEMPERATURE = 1
    HOT = 2
    BATTERY_LOW = 4
    INPUTS_DEAD = 8
    RESTING = 16
    UPDATE = 32


class ResetCause(IntFlag):
    """Why the device booted, bits as in the ATmega's MCUSR; 0 = unknown."""

    POWER_ON = 1
    EXTERNAL = 2
    BROWN_OUT = 4
    WATCHDOG = 8


class BatteryState(IntEnum):
    """What the battery does."""

    ABSENT = 0
    DISCHARGING = 1
    CHARGING = 2
    FULL = 3


class Board(IntEnum):
    """What the firmware runs on."""

    HOST = 1
    ATMEGA328P = 2
    SIMULATOR = 3


class Capabilities(IntFlag):
    """What the device has."""

    WHITE = 1
    POLARISED = 2
    SHUTTER = 4
    FOOT_SWITCH = 8
    LENS_CONTACT = 16
    TEMPERATURE = 32
    BATTERY = 64
    UPDATE = 128


PROTOCOL_VERSION = 1
TEMPERATURE_ABSENT = 0x7FFF
CHARGE_UNKNOWN = 255
TIME_LIMIT_MAX_MS = 10_000
LEVEL_MAX_PERCENT = 100
UPDATE_KEY = 0x54445055
EVENT_MAX_AGE_MS = 500
