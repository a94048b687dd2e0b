"""What tools say of wrong arguments."""

import argparse

import pytest

from pretrain.console import at_least_one


def test_a_number_of_rounds_is_one_or_more(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=at_least_one)
    assert parser.parse_args(["--rounds", "1"]).rounds == 1
    for wrong in ("0", "-3", "2.5", "many"):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([f"--rounds={wrong}"])
        assert stop.value.code == 2
        assert f"argument --rounds: a whole number of 1 or more is needed, not {wrong}" in capsys.readouterr().err
