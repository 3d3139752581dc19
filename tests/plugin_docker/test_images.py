"""Names of images."""

from __future__ import annotations

import pytest

from openrt_core.errors import SettingError
from openrt_docker import images


@pytest.mark.parametrize(
    ("name", "repository", "tag"),
    [
        ("a", "a", "latest"),
        ("a/b_c__d-e.f:V1.0", "a/b_c__d-e.f", "V1.0"),
        ("host:5000/a", "host:5000/a", "latest"),
        ("Registry.example.org/a/b:t", "Registry.example.org/a/b", "t"),
    ],
)
def test_a_name_is_repository_and_tag(name, repository, tag):
    assert images.split(name) == (repository, tag)


@pytest.mark.parametrize(
    "wrong", ["Upper", "a b", "x:", "x@sha256:1", "", "a//b", "a" * 300, "a:t:u", "-a", "a\n"]
)
def test_a_name_that_no_image_can_have_is_refused(wrong):
    with pytest.raises(SettingError, match="No image can be called"):
        images.split(wrong)
