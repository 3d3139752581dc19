"""Containers that a client created and never started, because it was killed in between.

The engine removes a container by itself when it ends, and one that never ran never ends.
"""

from __future__ import annotations

from openrt_core.errors import OpenrtError
from openrt_docker import container, labels
from openrt_docker.engine import Engine, is_missing, translated


def sweep(engine: Engine) -> int:
    """Removes those whose owner is proven dead; how many.

    Raises:
        EngineUnreachableError, ProvisionError
    """
    api = engine.client().api
    with translated("list the containers"):
        found = api.containers(all=True, filters={"status": "created", "label": labels.OWNER})
    removed = 0
    for one in found:
        told = one.get("Labels") or {}
        # What a user made of an image of ours carries our labels too, but not the name.
        named = f"/{container.name(told.get(labels.ID, ''))}" in (one.get("Names") or ())
        if not (named or labels.AGENT in told) or not labels.is_dead(told[labels.OWNER]):
            continue
        try:
            with translated("remove the container"):
                api.remove_container(one["Id"], v=True)
                removed += 1
        except OpenrtError as error:
            # Another client sweeps too, or it was started after all.
            if not is_missing(error) and "running" not in str(error):
                raise
    return removed
