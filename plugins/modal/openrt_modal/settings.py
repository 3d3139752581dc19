"""Settings of the modal runtime."""

from __future__ import annotations

import attrs

from openrt_core.errors import SettingError
from openrt_core.settings import setting


@attrs.frozen(kw_only=True)
class Settings:
    """The credentials. Without any, the modal library takes the profile in ~/.modal.toml."""

    api_token_id: str | None = setting("MODAL_API_TOKEN_ID")
    api_token_secret: str | None = setting("MODAL_API_TOKEN_SECRET")
    token_id: str | None = setting("MODAL_TOKEN_ID")
    token_secret: str | None = setting("MODAL_TOKEN_SECRET")

    def credentials(self) -> tuple[str, str] | None:
        """Token id and secret, the pair MODAL_API_* before the pair MODAL_*; None when no variable
        is set.

        Raises:
            SettingError: one half of a pair is set without the other.
        """
        for prefix, id, secret in (
            ("MODAL_API_TOKEN", self.api_token_id, self.api_token_secret),
            ("MODAL_TOKEN", self.token_id, self.token_secret),
        ):
            if id and secret:
                return id, secret
            if id or secret:
                there, missing = ("ID", "SECRET") if id else ("SECRET", "ID")
                raise SettingError(
                    f"{prefix}_{there} is set, but {prefix}_{missing} is not.",
                    hint=f"Set {prefix}_{missing} too, or neither: then the profile in "
                    "~/.modal.toml counts.",
                )
        return None
