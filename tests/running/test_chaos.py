"""A minute of accidents; half an hour of them is ``python tests/chaos.py --minutes 30``."""

import chaos
import pytest


@pytest.mark.slow
def test_a_folder_survives_a_minute_of_accidents(capsys):
    assert chaos.main(["--minutes", "1"]) == 0, capsys.readouterr()
    assert "whole again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "text"), [(1, ""), (0, "Traceback (most recent call last)"), (-11, "")]
)
def test_what_no_command_should_do_is_wrong(code, text):
    with pytest.raises(chaos.Wrong, match=f"x ended with {code}"):
        chaos.check(code, text, "x")
    chaos.check(2, "refused", "x")
