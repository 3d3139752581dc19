"""SANDBOX_PLATFORM: what the engine's images are for, and what is asked for."""

from __future__ import annotations

import pytest

from openrt_core.errors import ImageNotFoundError, SettingError
from openrt_docker import platforms


@pytest.mark.parametrize(
    ("image", "asked", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "LINUX/x86_64", True),
        ("linux/arm64", "linux/aarch64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_an_image_fits_a_platform_when_nothing_differs_that_both_say(image, asked, fits):
    assert platforms.fits(image, asked) is fits


@pytest.mark.parametrize("wrong", ["arm64", "linux/", "/amd64", "a/b/c/d"])
def test_what_is_no_platform_is_refused(runtime, wrong):
    with pytest.raises(SettingError, match="os/architecture"):
        runtime.create(platform=wrong)


def test_the_images_own_platform_runs(runtime, engine, monkeypatch):
    value = engine.images.get(runtime.image).attrs
    monkeypatch.setenv("SANDBOX_PLATFORM", f"{value['Os']}/{value['Architecture']}")
    with runtime.create() as sandbox:
        assert sandbox.exec("true").ok


@pytest.mark.parametrize("more", [{}, {"image_commands": ["true"]}])
def test_an_image_of_another_architecture_is_refused_by_name(runtime, engine, more):
    mine = engine.images.get(runtime.image).attrs["Architecture"]
    other = "linux/s390x"
    with pytest.raises(ImageNotFoundError) as caught:
        runtime.create(platform=other, **more)
    for part in (runtime.image, mine, other):
        assert part in str(caught.value)
