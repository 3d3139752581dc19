"""Derived images: SANDBOX_RUNTIME_EXTRA_DEPS and image_commands=, on the engine."""

from __future__ import annotations

import uuid

import pytest

from openrt_core import Manager, Sandbox
from openrt_core.errors import ImageNotFoundError, ProvisionError
from openrt_core.events import Event


@pytest.fixture
def mark(engine):
    """A text of this test's own; the images whose commands hold it are removed afterwards."""
    mark = uuid.uuid4().hex
    yield mark
    for filters in ({"label": "openrt.derived"}, {"dangling": True}):
        for image in made_of(engine, mark, filters):
            engine.images.remove(image.id, force=True)


def made_of(engine, mark, filters):
    """The images one of whose commands holds ``mark``."""
    found = engine.images.list(filters=filters)
    return [i for i in found if any(mark in layer["CreatedBy"] for layer in i.history())]


def derived(engine, mark):
    """The derived ones among them."""
    return made_of(engine, mark, {"label": "openrt.derived"})


def test_extra_deps_are_built_once_and_found_again(runtime, engine, mark, monkeypatch):
    monkeypatch.setenv("SANDBOX_BASE_CONTAINER_IMAGE", runtime.image)
    monkeypatch.setenv(
        "SANDBOX_RUNTIME_EXTRA_DEPS", f"echo {mark} > /mark && cat /proc/uptime > /when"
    )
    when = set()
    for _ in range(2):
        with Sandbox.create(runtime.name) as sandbox:
            assert sandbox.exec("cat /mark").stdout.decode().strip() == mark
            when.add(sandbox.exec("cat /when").stdout)
    assert len(when) == 1
    (image,) = derived(engine, mark)
    assert image.tags[0].startswith("openrt-derived:")
    monkeypatch.setenv("SANDBOX_FORCE_REBUILD_RUNTIME", "true")
    with Sandbox.create(runtime.name) as sandbox:
        when.add(sandbox.exec("cat /when").stdout)
    assert len(when) == 2
    (again,) = derived(engine, mark)
    assert (again.tags, again.id == image.id) == (image.tags, False)


def test_commands_reach_the_shell_as_they_are(runtime, engine, mark):
    text = f"""cat > /quoted <<'END'
{mark} "quoted" \\ $HOME `id` ünïcode
# no comment
END
test "$(id -u)" = 0 && echo \\
continued > /continued"""
    with runtime.create(image_commands=[text, "cp /quoted /copied"]) as sandbox:
        copied = sandbox.exec("cat /copied /continued").stdout.decode()
    assert copied == f'{mark} "quoted" \\ $HOME `id` ünïcode\n# no comment\ncontinued\n'


def test_the_images_user_stays(runtime, engine, mark):
    base = f"openrt-test/user-{mark}"
    made = engine.containers.create(runtime.image, ["none"])
    try:
        made.commit(base, "latest", changes="USER 4321:4322")
        manager = Manager.open(runtime.name)
        command = f"test $(id -u) = 0 # {mark}"
        image = manager.hooks.call(
            str,
            "openrt_build_image",
            base=f"{base}:latest",
            commands=(command,),
            platform=None,
            rebuild=False,
        )
        assert engine.images.get(image).attrs["Config"]["User"] == "4321:4322"
    finally:
        made.remove()
        for image in derived(engine, mark):
            engine.images.remove(image.id, force=True)
        engine.images.remove(f"{base}:latest")


def test_a_command_that_fails_is_told_with_what_it_printed(runtime, engine, mark):
    events: list[Event] = []
    manager = Manager.open(runtime.name, emit=events.append)
    with pytest.raises(ProvisionError) as caught:
        Sandbox.create(
            manager=manager,
            image=runtime.image,
            image_commands=[f"echo {mark}", f"printf 'before \\033[31m'; exit 7 # {mark}"],
        )
    assert "before ?[31m" in str(caught.value)
    assert "returned a non-zero code: 7" in str(caught.value)
    assert any("step 2" in event.message for event in events)
    assert not any(mark in c["Command"] for c in engine.api.containers(all=True))
    assert not derived(engine, mark)


def test_a_base_that_is_not_there_is_told(runtime):
    with pytest.raises(ImageNotFoundError, match=r"registry\.invalid"):
        runtime.create(image="registry.invalid/no:such", image_commands=["true"])
