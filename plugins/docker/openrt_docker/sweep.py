"""Containers that a client created and never started, because it was killed in between.

The engine removes a container by itself when it ends, and one that never ran never ends.
"""

from __future__ import annotations

from openrt_core.errors import OpenrtError
from openrt_docker import labels
from openrt_docker.engine import Engine, is_missing, translated


def sweep(engine: Engine) -> int:
    """Removes those whose owner is proven dead; how many.

    Raises:
        EngineUnreachableError, ProvisionError
    """
    api = engine.client().api
    with translated("list the containers"):
        found = api.containers(
            all=True, filters={"status": "created", "label": [labels.ID, labels.OWNER]}
        )
    removed = 0
    for one in found:
        if not labels.is_dead((one.get("Labels") or {}).get(labels.OWNER, "")):
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
