"""What all commands share: help, and statuses: mistakes are one line and 2, our own errors a traceback and 1."""

import pytest

COMMANDS = [
    *(["train"], ["sample"], ["eval"], ["sweep"], ["info"]),
    *(["data"], ["data", "build"], ["import"], ["export"]),
]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=lambda words: " ".join(words) or "pdm")
def test_help(pdm, capsys, command):
    with pytest.raises(SystemExit) as end:
        pdm(*command, "--help")
    assert end.value.code == 0
    assert f"usage: pdm {' '.join(command)}".strip() in capsys.readouterr().out


def test_the_help_of_pdm_lists_every_command(pdm, capsys):
    with pytest.raises(SystemExit):
        pdm("--help")
    out = capsys.readouterr().out
    assert all(f"\n    {command[0]} " in out for command in COMMANDS)


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "required: COMMAND; see pdm --help"),
        (["paint"], "invalid choice: 'paint'"),
        (["sample"], "required: --workdir; see pdm sample --help"),
        (["sample", "--workdir=x", "--num=many"], "argument --num: invalid int value: 'many'; see pdm sample --help"),
        (["sample", "--workdir=x", "--colour=red"], "unrecognized arguments: --colour=red"),
        (["info", "x", "--config.seed=1"], "--config.seed=1 does not belong to this command"),
    ],
)
def test_a_command_line_that_is_wrong(refused, argv, message):
    assert message in refused(*argv)


def test_an_interrupt_is_no_traceback(pdm, monkeypatch, tmp_path):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("pdm_jax.checkpoints.locate", interrupt)
    assert pdm("info", tmp_path) == (130, "", "pdm: interrupted\n")


def test_an_error_of_ours_is_a_traceback(pdm, monkeypatch, tmp_path):
    def fail(path):
        raise KeyError("nobody thought of this")

    monkeypatch.setattr("pdm_jax.checkpoints.locate", fail)
    status, out, err = pdm("info", tmp_path)
    assert (status, out) == (1, "") and "KeyError: 'nobody thought of this'" in err


def test_a_nan_is_one_line_with_its_place(refused, monkeypatch, tmp_path):
    def divide(path):
        raise FloatingPointError("invalid value (nan) encountered in div")

    monkeypatch.setattr("pdm_jax.checkpoints.locate", divide)
    line = refused("info", tmp_path)
    assert "--debug-nans: invalid value (nan) encountered in div at " in line and "info.py" in line


@pytest.mark.parametrize(
    "command", [["train", "--config=no.py", "--workdir=x"], ["sample", "--workdir=x"], ["eval", "--workdir=x"]]
)
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--coordinator=a:1"], "--num-processes and --process-id are missing"),
        (["--join-timeout=0"], "--join-timeout is 0; expected at least 1 second"),
        (["--lost-after=0"], "--lost-after is 0; expected at least 1 second"),
    ],
)
def test_every_command_that_computes_takes_several_hosts(refused, command, flags, message):
    assert message in refused(*command, *flags)
