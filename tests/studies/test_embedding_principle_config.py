"""Settings are read as they are typed, and what does not fit is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from liftscape.outcomes import LoadError
from liftscape.studies import embedding_principle_config
from liftscape.studies.embedding_principle_config import load_config

COMMITTED = Path(embedding_principle_config.__file__).with_name("embedding_principle.toml")


def test_the_committed_settings_are_read():
    config = load_config()
    assert config == load_config(COMMITTED)
    assert isinstance(config.smooth.epsilons, tuple)
    assert all(isinstance(epsilon, float) for epsilon in config.smooth.epsilons)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("starts = ", "begins = ", "starts"),
        ("seed = 0", 'seed = "zero"', "'zero'"),
        ("seed = 0", "seed =", "cannot be read"),
        ("runs = ", "speed = 1\nruns = ", "speed"),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, named: str, tmp_path: Path):
    path = tmp_path / "settings.toml"
    path.write_text(COMMITTED.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LoadError, match=named):
        load_config(path)


def test_settings_are_read_without_torch():
    code = (
        "import sys; from liftscape.studies.embedding_principle_config import load_config;"
        "load_config(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
