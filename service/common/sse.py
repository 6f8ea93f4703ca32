"""Incremental parser for server-sent events. Chunks may be split anywhere, even within a character.

Comments, ids, retry times and events without data are ignored.
"""

MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(ValueError):
    """An unfinished event exceeds MAX_EVENT_BYTES."""


class EventParser:
    """Incremental parser of one event stream.

    Lines end with LF, CRLF or CR. Data lines of one event are joined with LF.

    Attributes:
        names: Names of the events that the last `feed` or `close` returned; empty for an event without a name.
    """

    def __init__(self) -> None:
        self._tail = bytearray()  # unfinished line
        self.names: list[bytes] = []
        self._data: list[bytes] = []  # data lines of the unfinished event
        self._name = b""
        self._buffered = 0  # bytes of both
        self._is_at_start = True
        self._ended_with_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of each event that `chunk` completes, in order. Raises EventTooLong."""
        self.names = []
        if not chunk:
            return []
        if self._ended_with_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ended_with_cr = chunk.endswith(b"\r")
        if self._tail:
            self._tail += chunk
            if b"\n" not in chunk and b"\r" not in chunk:
                self._count(len(chunk))
                return []
            chunk = bytes(self._tail)
            self._tail.clear()
        lines = chunk.splitlines()
        if lines and not chunk.endswith((b"\n", b"\r")):
            self._tail += lines.pop()
            self._count(len(self._tail))
        return self._read(lines)

    def close(self) -> list[bytes]:
        """Return the data of the last event: some servers end the stream without a blank line."""
        self.names = []
        lines = [bytes(self._tail), b""]
        self._tail.clear()
        return self._read(lines)

    def _read(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        if self._is_at_start and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            self._is_at_start = False
        for line in lines:
            if not line:
                if event := data[0] if len(data) == 1 else b"\n".join(data):
                    events.append(event)
                    self.names.append(self._name)
                data.clear()
                self._name = b""
                self._buffered = len(self._tail)
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._count(len(line))
            elif line.startswith(b"event:"):
                self._name = line[7:] if line[6:7] == b" " else line[6:]
        return events

    def _count(self, size: int) -> None:
        self._buffered += size
        if self._buffered > MAX_EVENT_BYTES:
            self._tail.clear()  # an error keeps the frames that use this parser alive
            self._data.clear()
            raise EventTooLong(f"event exceeds {MAX_EVENT_BYTES} bytes")
