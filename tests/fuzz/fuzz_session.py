"""A hostile agent against a session with open operations, by atheris: `nox -s fuzz`.

Whatever comes, in whatever chunks: nothing but Violation is raised, output stays within the credit
that was given, an operation ends once, and what the decoder keeps is bounded.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["openrt_agent"]):
    from openrt_agent import wire
    from openrt_agent.operations import Ended, Exited, Failed, Kind, Operation, Output
    from openrt_agent.session import Session

HELLO: Final = {"protocol": 1, "agent": "f", "boot": "0a", "pid": 1, "uid": 0, "owner": True}
EXIT: Final = {"exit_code": 0, "signal": None, "timed_out": False, "wall": 1, "user": 0}
JSON: Final = (
    HELLO | {"arch": "amd64"},
    EXIT | {"system": 0, "max_rss": 1},
    {"code": "io", "message": "no", "errno": 5},
    {"size": 1},
)
KINDS: Final = (*range(wire.AGENT_HELLO, wire.GAP + 1), wire.START, 0)
OPERATIONS: Final[tuple[Kind, ...]] = ("command", "detached", "file", "command")
WINDOW: Final = 60
NOBODY: Final[Any] = None  # a session only carries the handler


class Fuzzed:
    """A session, and what may come of it."""

    def __init__(self, data: atheris.FuzzedDataProvider) -> None:
        self.data = data
        self.session = Session(lease=100, now=0)
        self.opened: list[Operation] = []
        self.credit: dict[tuple[int, int], int] = {}
        self.ended: set[int] = set()
        self.now = 0.0
        for kind in OPERATIONS:
            self.open(kind)

    def open(self, kind: Kind) -> None:
        operation = self.session.open(kind, NOBODY, (WINDOW, WINDOW))
        self.opened.append(operation)
        for stream in (1, 2):
            self.credit[operation.id, stream] = WINDOW + operation.overdraft

    def run(self) -> None:
        if self.data.ConsumeBool():
            self.receive(frame(wire.AGENT_HELLO, 0, json.dumps(JSON[0]).encode()))
        while self.data.remaining_bytes():
            if self.data.ConsumeIntInRange(0, 3):
                self.receive(self.chunk())
            else:
                self.act()

    def chunk(self) -> bytes:
        """A frame, bytes that are none, or a part of either."""
        if not self.data.ConsumeIntInRange(0, 3):
            return bytes(self.data.ConsumeBytes(self.data.ConsumeIntInRange(0, 200)))
        kind = self.data.PickValueInList(list(KINDS))
        id = self.data.ConsumeIntInRange(0, len(self.opened) + 1)
        form = self.data.ConsumeIntInRange(0, 3)
        if form == 0:
            payload = json.dumps(self.data.PickValueInList(list(JSON))).encode()
        elif form == 1:
            most = self.data.PickValueInList([50, 50, wire.SMALL, wire.CHUNK - 1, wire.LARGE])
            stream = bytes((self.data.ConsumeIntInRange(0, 3),))
            payload = stream + b"x" * self.data.ConsumeIntInRange(0, most)
        else:
            payload = bytes(self.data.ConsumeBytes(self.data.ConsumeIntInRange(0, 40)))
        whole = frame(kind, id, payload)
        return whole[: self.data.ConsumeIntInRange(1, len(whole))] if form == 3 else whole

    def receive(self, chunk: bytes) -> None:
        """What comes, perhaps torn apart."""
        cut = self.data.ConsumeIntInRange(0, len(chunk)) if self.data.ConsumeBool() else 0
        for part in (chunk[:cut], chunk[cut:]):
            for event in self.session.receive(part):
                operation = getattr(event, "operation", None)
                assert operation is None or operation.id not in self.ended
                if isinstance(event, Output):
                    self.credit[event.operation.id, event.stream] -= len(event.data)
                    assert event.data
                    assert self.credit[event.operation.id, event.stream] >= 0
                elif isinstance(event, (Exited, Failed, Ended)):
                    self.ended.add(event.operation.id)
                    assert not self.session.is_open(event.operation)
            # The decoder is private; its memory is what is looked at here.
            decoder = self.session._decoder
            assert len(decoder._header) < 9
            assert len(decoder._body) < wire.LARGE

    def act(self) -> None:
        """Something that this side does on its own."""
        operation = self.data.PickValueInList(self.opened)
        action = self.data.ConsumeIntInRange(0, 4)
        amount = self.data.ConsumeIntInRange(1, 1000)
        if action == 0:
            stream = self.data.ConsumeIntInRange(1, 2)
            self.session.grant(operation, stream, amount)
            self.credit[operation.id, stream] += amount
        elif action == 1:
            self.session.feed_input(operation, b"x" * amount)
        elif action == 2:
            self.session.connection_credit()
        elif action == 3 and self.session.forget(operation):
            self.ended.add(operation.id)
        elif action == 4:
            self.now = max(self.now, self.session.due())
            self.session.tick(self.now)


def frame(kind: int, id: int, payload: bytes) -> bytes:
    """One frame of the agent's."""
    return len(payload).to_bytes(4, "big") + bytes((kind,)) + id.to_bytes(4, "big") + payload


def test_one_input(data: bytes) -> None:
    """One session."""
    fuzzed = Fuzzed(atheris.FuzzedDataProvider(data))
    said = ""
    try:
        fuzzed.run()
    except wire.Violation as violation:
        said = str(violation)
    assert said.isprintable()
    assert len(said) < 200
    left = {operation.id for operation in fuzzed.session.forget_all()}
    assert left == {operation.id for operation in fuzzed.opened} - fuzzed.ended


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
