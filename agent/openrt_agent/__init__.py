"""The client of openrt's agent, and a base class for runtimes whose sandboxes run it."""

from __future__ import annotations

from openrt_agent.binary import SOCKET, agent_digest, agent_path
from openrt_agent.client import AgentClient
from openrt_agent.endpoint import Endpoint, FdEndpoint, PushEndpoint, SocketEndpoint
from openrt_agent.messages import Hello
from openrt_agent.requests import StartRequest
from openrt_agent.runtime import AgentRuntime, linger_of

__all__ = [
    "SOCKET",
    "AgentClient",
    "AgentRuntime",
    "Endpoint",
    "FdEndpoint",
    "Hello",
    "PushEndpoint",
    "SocketEndpoint",
    "StartRequest",
    "agent_digest",
    "agent_path",
    "linger_of",
]
