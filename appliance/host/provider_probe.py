"""Try each execution provider of ONNX Runtime with a tiny model: `python -m appliance.host.provider_probe`.

Its last line is one JSON object. It is a program of its own because a broken GPU driver may end the process, and
because what it complains about goes to stderr past Python.
"""

import json
import sys
from typing import Final

# A model of one node, y = -x, both float32 [1]; IR version 8, opset 17, 64 bytes. `tests/test_doctor_providers.py`
# builds the same with the onnx package and compares.
PROBE_MODEL: Final = bytes.fromhex(
    "08083a360a0b0a017812017922034e6567120570726f62655a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)


def probe() -> dict[str, object]:
    """Return the module's version and, for each provider that it offers, those that a session really got."""
    import onnxruntime

    loaded = {}
    for provider in onnxruntime.get_available_providers():
        try:
            session = onnxruntime.InferenceSession(PROBE_MODEL, providers=[provider])
        except Exception as error:  # noqa: BLE001  # whatever a driver raises is the finding
            loaded[provider] = [f"{type(error).__name__}: {error}"]
        else:
            loaded[provider] = session.get_providers()
    return {"version": onnxruntime.__version__, "loaded": loaded}


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(probe())}\n")
