"""Images whose ENV would steer the agent, which is a Go program."""

from __future__ import annotations

import pytest

pytest.importorskip("openrt_docker")
from openrt_core import Sandbox
from openrt_docker import go_variables

TOLD = 'echo "$GOMEMLIMIT|$GODEBUG|$GOGC|${GOTRACEBACK-unset}"'


def test_a_malformed_one_harms_nobody_and_reaches_the_commands(runtime, configured):
    image = configured("ENV GOMEMLIMIT=abc", "ENV GODEBUG=inittrace=1", "ENV GOGC=nonsense")
    expected = b"abc|inittrace=1|nonsense|unset\n"
    with Sandbox.create(runtime.name, image=image, keep=True) as sandbox:
        try:
            assert sandbox.exec(TOLD).stdout == expected
            assert sandbox.exec(TOLD, env={"GOMEMLIMIT": "1GiB"}).stdout.startswith(b"1GiB|")
            with Sandbox.connect(sandbox.id, runtime.name) as joined:
                assert joined.exec(TOLD).stdout == expected
        finally:
            sandbox.kill()


def test_where_the_image_sets_none_commands_have_none(runtime):
    with runtime.create() as sandbox:
        assert sandbox.exec("env | grep ^GO").stdout == b""


@pytest.mark.parametrize("label", ["", "nonsense", "[1]", '{"PATH": "/evil", "GOGC": 1}'])
def test_a_label_of_somebody_else_says_nothing(label):
    assert go_variables.from_label(label) == {}
