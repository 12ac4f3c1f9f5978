"""What all commands share: help, and mistakes as one line with status 2."""

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
