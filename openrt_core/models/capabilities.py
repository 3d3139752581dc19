"""What a runtime can do, as ``openrt runtimes`` shows it and the conformance suite tests it."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Capabilities:
    """What one runtime can do.

    Attributes:
        hooks: optional hooks that the runtime itself implements, by their names without
            ``openrt_``.
        features: fields of SandboxSpec and Command beyond the basic ones that it honours; see
            ``openrt_core.plugin.FEATURES``.
    """

    hooks: frozenset[str]
    features: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return name in self.hooks or name in self.features
