from __future__ import annotations

import asyncio
import contextlib
import threading
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.polling import until

from openrt_core.errors import TransportError
from openrt_core.streams import InputWriter, OutputReader, read_both


def reader_of(*chunks, error=None, end=True):
    credits: list[int] = []
    reader = OutputReader(credits.append)
    for chunk in chunks:
        reader.feed(chunk)
    if end:
        reader.end(error)
    return reader, credits


def test_reads_give_what_is_there_at_most_the_size_and_nothing_at_the_end():
    reader, credits = reader_of(b"abc", b"de")
    assert [reader.read(2) for _ in range(5)] == [b"ab", b"c", b"de", b"", b""]
    assert credits == [2, 1, 2]


def test_reading_without_a_size_gives_all_up_to_the_end():
    assert reader_of(b"abc", b"de")[0].read() == b"abcde"


def test_iterating_gives_chunks_as_they_come():
    assert list(reader_of(b"abc", b"de")[0]) == [b"abc", b"de"]


@given(st.lists(st.binary(min_size=1, max_size=50)), st.integers(min_value=1, max_value=20))
def test_no_byte_is_lost_and_each_is_credited_once(chunks, size):
    reader, credits = reader_of(*chunks)
    read = b"".join(iter(lambda: reader.read(size), b""))
    assert read == b"".join(chunks)
    assert sum(credits) == len(read)


def test_a_read_waits_for_the_first_byte():
    reader, _ = reader_of(end=False)
    threading.Timer(0.05, reader.feed, (b"x",)).start()
    assert reader.read(10) == b"x"
    threading.Timer(0.05, reader.end, (None,)).start()
    assert reader.read(10) == b""


def test_what_came_before_a_loss_is_read_and_then_the_loss_is_raised():
    reader, _ = reader_of(b"x", error=TransportError("lost"))
    assert reader.read(10) == b"x"
    for _ in range(2):
        with pytest.raises(TransportError):
            reader.read(10)


def test_reading_in_async_code():
    async def main():
        reader, _ = reader_of(end=False)
        threading.Timer(0.05, reader.feed, (b"x",)).start()
        assert await reader.read_async(10) == b"x"
        reader.feed(b"y")
        threading.Timer(0.05, reader.end, (None,)).start()
        assert [chunk async for chunk in reader] == [b"y"]
        assert await reader.read_async() == b""

    asyncio.run(main())


def test_a_cancelled_read_loses_nothing():
    async def main():
        reader, _ = reader_of(end=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read_async(10), 0.05)
        reader.feed(b"x")
        assert await reader.read_async(10) == b"x"

    asyncio.run(main())


class Sink:
    def __init__(self):
        self.sent: list[typing.Any] = []
        self.writer = InputWriter(self.sent.append, lambda: self.sent.append("end"))


def test_nothing_is_sent_beyond_the_credit():
    sink = Sink()
    sink.writer.submit(b"abcdef")
    sink.writer.close()
    assert sink.sent == []
    for amount in (2, 3, 10):
        sink.writer.add_credit(amount)
    assert sink.sent == [b"ab", b"cde", b"f", "end"]


def test_a_write_returns_when_all_of_it_was_taken():
    sink = Sink()
    sink.writer.add_credit(1)
    threading.Timer(0.05, sink.writer.add_credit, (5,)).start()
    sink.writer.write(b"abc")
    assert b"".join(sink.sent) == b"abc"


def test_several_writers_do_not_mix_their_bytes():
    sink = Sink()
    texts = [bytes([65 + n]) * 1000 for n in range(8)]
    threads = [threading.Thread(target=sink.writer.write, args=(t,)) for t in texts]
    for thread in threads:
        thread.start()
    for _ in range(8 * 1000 // 50):
        sink.writer.add_credit(50)
    for thread in threads:
        thread.join(60)
    whole = b"".join(sink.sent)
    assert sorted(whole[n : n + 1000] for n in range(0, 8000, 1000)) == texts


def test_the_end_is_sent_once_after_what_was_written_and_without_credit():
    sink = Sink()
    sink.writer.close()
    sink.writer.close()
    sink.writer.add_credit(5)
    assert sink.sent == ["end"]
    with pytest.raises(BrokenPipeError):
        sink.writer.write(b"x")


def test_a_writer_of_a_command_that_is_over_is_let_go_with_an_error():
    sink = Sink()
    threading.Timer(0.05, sink.writer.abandon).start()
    with pytest.raises(BrokenPipeError):
        sink.writer.write(b"abc")
    with pytest.raises(BrokenPipeError):
        sink.writer.submit(b"abc")
    sink.writer.close()
    assert sink.sent == []


def test_writing_nothing_returns_at_once():
    Sink().writer.write(b"")


def test_writing_in_async_code():
    async def main():
        sink = Sink()
        threading.Timer(0.05, sink.writer.add_credit, (3,)).start()
        await sink.writer.write_async(b"abc")
        await sink.writer.write_async(b"")
        threading.Timer(0.05, sink.writer.abandon).start()
        with pytest.raises(BrokenPipeError):
            await sink.writer.write_async(b"x")
        assert sink.sent == [b"abc"]

    asyncio.run(main())


def test_an_interrupted_writer_leaves_the_way_open_for_the_next():
    sent = []

    def send(data):
        sent.append(data)
        if len(sent) == 1:
            raise KeyboardInterrupt  # as the main thread may be hit at any step

    writer = InputWriter(send, lambda: sent.append("end"))
    writer.add_credit(100)
    with pytest.raises(KeyboardInterrupt):
        writer.write(b"a")
    writer.write(b"b")
    writer.close()
    assert sent == [b"a", b"b", "end"]


def test_what_was_taken_is_written_also_when_the_command_ends_at_once():
    async def later():
        await ends_at_once().write_async(b"quit")

    def ends_at_once():
        writer = InputWriter(lambda data: writer.abandon(), lambda: None)
        writer.add_credit(100)
        return writer

    ends_at_once().write(b"quit")
    asyncio.run(later())


def test_a_writer_whose_data_another_thread_was_sending_when_it_was_interrupted_is_let_go():
    def send(data):
        raise KeyboardInterrupt

    writer = InputWriter(send, lambda: None)
    failed = threading.Event()

    def write():
        with contextlib.suppress(BrokenPipeError):
            writer.write(b"other")
        failed.set()

    threading.Thread(target=write, daemon=True).start()
    until(lambda: writer._queue)
    with pytest.raises(KeyboardInterrupt):
        writer.add_credit(100)
    assert failed.wait(60)


def test_two_streams_are_read_as_they_come():
    (one, _), (other, _) = reader_of(end=False), reader_of(end=False)
    both = read_both(one, other)
    for reader, data in ((other, b"x"), (one, b"a"), (other, b"y")):
        threading.Timer(0.01, reader.feed, (data,)).start()
        assert next(both) == (reader, data)
    other.end(None)
    one.feed(b"b")
    assert next(both) == (one, b"b")
    threading.Timer(0.01, one.end, (None,)).start()
    assert list(both) == []
