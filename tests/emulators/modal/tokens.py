"""Who may call the emulator, and the bearer tokens that it hands out."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping

import attrs
from grpclib import GRPCError, Status

TOKEN_LIFETIME = 24 * 3600.0
"""Seconds until a minted token expires: longer than any test."""


def mint(**claims: str) -> str:
    """A fresh token in the shape of a JWT.

    The client reads nothing but ``exp``; the signature is a placeholder, and the emulator compares
    tokens as whole strings.
    """
    payload = {"exp": time.time() + TOKEN_LIFETIME, "jti": uuid.uuid4().hex, **claims}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, payload)
    ]
    return ".".join([*parts, "unsigned"])


@attrs.define(eq=False)
class Accounts:
    """The accepted credentials (token id → token secret) and the token for V2 calls."""

    secrets: dict[str, str] = attrs.field(repr=False)
    input_plane_token: str = attrs.field(factory=lambda: mint(kind="input-plane"), repr=False)

    def check(self, method: str, metadata: Mapping[str, object]) -> None:
        """Refuse a control call without good credentials.

        Raises GRPCError(UNAUTHENTICATED), to the client ``modal.exception.AuthError``.
        """
        token_id = str(metadata.get("x-modal-token-id", ""))
        secret = self.secrets.get(token_id)
        if secret is None or metadata.get("x-modal-token-secret") != secret:
            message = "Token validation failed. Could not authenticate client."
            raise GRPCError(Status.UNAUTHENTICATED, message)
        needs_token = method.startswith("Sandbox") and method.endswith("V2")
        if needs_token and metadata.get("x-modal-auth-token") != self.input_plane_token:
            raise GRPCError(Status.UNAUTHENTICATED, "missing or stale x-modal-auth-token")
