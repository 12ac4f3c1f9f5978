"""Config files and settings: what is understood, and what is said of what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdm_jax.cli.config_files import load_config, parse_value, separate_overrides
from pdm_jax.errors import UserError
from tests.cli.conftest import ROOT

QUICKSTART = f"{ROOT}/configs/quickstart.py"


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("-1", -1),
        ("2e-4", 2e-4),
        ("1_000", 1000),
        ("none", None),
        ("None", None),
        ("true", True),
        ("False", False),
        ("(1, 2, 2)", (1, 2, 2)),
        ("[1,2]", [1, 2]),
        ("'3'", "3"),
        ("cosine", "cosine"),
        ("folder:/my/photos", "folder:/my/photos"),
        ("90,60,60,20,20", "90,60,60,20,20"),
        ("a=b", "a=b"),
        ("", ""),
        ("1 +", "1 +"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_values(text, value):
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
        st.lists(st.integers()),
    )
)
def test_what_python_prints_comes_back(value):
    assert parse_value(str(value)) == value


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz:/._- ", min_size=1))
def test_words_and_paths_are_themselves(text):
    if text.lower() not in ("none", "true", "false"):
        assert parse_value(text) in (text, ...)  # "..." is Python's Ellipsis


def test_settings_change_the_config():
    config = load_config(
        QUICKSTART,
        [
            "--config.train.num_steps=7",
            "--config.optimizer.learning_rate=1",
            "--config.optimizer.clip_norm=none",
            "--config.model.network.channel_mult=[1, 2, 4]",
            "--config.sample.steps=90,60",
            "--config.data.source=folder:/a=b",
            "--config.seed=1",
            "--config.seed=2",
        ],
    )
    assert config.train.num_steps == 7
    assert config.optimizer.learning_rate == 1.0 and isinstance(config.optimizer.learning_rate, float)
    assert config.optimizer.clip_norm is None
    assert config.model.network["channel_mult"] == (1, 2, 4)
    assert config.sample.steps == "90,60"
    assert config.data.source == "folder:/a=b"
    assert config.seed == 2  # the last one counts


@pytest.mark.parametrize(
    "override, message",
    [
        (
            "--config.train.num_step=7",
            r"config.train.num_step is not a config key; did you mean config.train.num_steps",
        ),
        ("--config.trane.num_steps=7", r"config.trane is not a config key; did you mean config.train"),
        ("--config.train.num_steps=many", r"config.train.num_steps is 'many'; expected int"),
        ("--config.train.num_steps=none", r"config.train.num_steps is None; expected int"),
        ("--config.train.log_every.x=7", r"log_every is a setting, not a group of settings"),
        ("--config.train=7", r"config.train is 7; expected a group with the keys num_steps, "),
        ("--config.data.flip=1", r"config.data.flip is 1; expected bool"),
    ],
)
def test_settings_that_do_not_exist(override, message):
    with pytest.raises(UserError, match=message):
        load_config(QUICKSTART, [override])


@pytest.mark.parametrize(
    "word", ["--config.train.num_steps", "--config.=1", "--config.a..b=1", "--config.train-steps=1"]
)
def test_settings_that_are_not_understood(word):
    with pytest.raises(UserError, match=r"is not understood; expected --config.GROUP.KEY=VALUE"):
        separate_overrides(["train", word, "7"])


def test_settings_are_told_from_arguments():
    argv = ["train", "--config=a.py", "--config.seed=1", "--workdir=w"]
    assert separate_overrides(argv) == (["train", "--config=a.py", "--workdir=w"], ["--config.seed=1"])


def test_variants():
    assert load_config(f"{QUICKSTART}:fast").train.grid_every < load_config(QUICKSTART).train.grid_every
    with pytest.raises(UserError, match=r"quickstart.py has no variant 'slow'; it has fast, smoke"):
        load_config(f"{QUICKSTART}:slow")
    church = f"{ROOT}/configs/pdm/church256.py"
    assert load_config(f"{church}:P8,smoke").model.patch_size == 8
    with pytest.raises(UserError, match="has no variant 'P3'"):
        load_config(f"{church}:smoke,P3")


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("import no_such_module", r"config.py does not run: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def get_config(:", r"config.py does not run: SyntaxError"),
        ("raise ValueError('two\\nlines')", r"config.py does not run: ValueError: two lines"),
        ("x = 1 / 0", r"config.py does not run: ZeroDivisionError"),
        ("def config(): return {}", r"config.py has no get_config\(\); see configs/quickstart.py"),
        ("def get_config(): raise KeyError('width')", r"config.py does not run: KeyError: 'width'"),
        ("def get_config(): return None", r"config.py: get_config\(\) gives NoneType; expected"),
        ("def get_config(): return {'seed': 1}", r"config.data is missing; set it in the config file"),
    ],
)
def test_files_that_do_not_run(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(write(tmp_path / "config.py", text))
    assert "\n" not in str(error.value)


def test_a_file_without_variants_and_one_that_is_not_there(tmp_path):
    path = write(tmp_path / "plain.py", "def get_config(): return {}")
    with pytest.raises(UserError, match=r"plain.py has no variant 'fast'; it has none"):
        load_config(f"{path}:fast")
    with pytest.raises(UserError, match=r"there is no config file .*other.py; see the files in configs/"):
        load_config(str(tmp_path / "other.py"))
    with pytest.raises(UserError, match="there is no config file"):
        load_config(str(tmp_path))
