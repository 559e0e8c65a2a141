"""A settings file is read strictly: what is not understood refuses to start, naming the key."""

from pathlib import Path

import pytest

from appliance.config import Config, load_config
from appliance.errors import ConfigurationError


def test_without_a_file_the_defaults_listen_on_loopback_only() -> None:
    config = load_config(None)
    assert config == Config()
    assert config.engine.host == config.station.host == "127.0.0.1"


def test_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "dermstation.toml"
    path.write_text('[engine]\nqueue_limit = 2\ndeadline_s = 30\n[station]\nname = "room 3"\n')
    config = load_config(path)
    assert (config.engine.queue_limit, config.engine.deadline_s, config.station.name) == (2, 30.0, "room 3")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[engine]\nprot = 1\n", "prot"),
        ("[engine]\nport = 65536\n", "$.engine.port"),
        ("[engine]\nport = '80'\n", "$.engine.port"),
        ("[camera]\nkind = 'webcam'\n", "$.camera.kind"),
        ("[camera]\nframes_per_s = 0\n", "$.camera.frames_per_s"),
        ("[camera.overview]\ndevice = '/dev/video0'\n", "lasting name"),
        ("[camera.dermatoscope]\ndevice = 'video0'\n", "lasting name"),
        ("[camera.overview]\nwidth_px = 0\n", "$.camera.overview.width_px"),
        ("[unknown]\n", "unknown"),
        ("[station\n", "TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "dermstation.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dermstation.toml"
    path.write_bytes(b'[station]\nname = "\xff"\n')
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load_config(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory"):
        load_config(tmp_path / "absent.toml")
