"""Server-sent events, read as they arrive: bytes may be split anywhere, in the middle of a character too.

Comments, ids and retry times are left out, and so are events without data.
"""

MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(ValueError):
    """An event passed MAX_EVENT_BYTES without an end: this is no event stream."""


class EventParser:
    """An incremental parser for one stream: feed it bytes, get the data of the events they completed.

    Lines end with LF, CRLF or CR. Lines of data that belong to one event are joined with LF. `names` are the names of the
    events that were returned last, empty for one without a name.
    """

    def __init__(self) -> None:
        self._tail = bytearray()  # a line without its end
        self.names: list[bytes] = []
        self._data: list[bytes] = []  # an event without its end
        self._name = b""
        self._held = 0  # bytes in both
        self._is_fresh = True
        self._ended_with_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that `chunk` completed, in order. Raises EventTooLong."""
        self.names = []
        if not chunk:
            return []
        if self._ended_with_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ended_with_cr = chunk.endswith(b"\r")
        if self._tail:
            self._tail += chunk
            if b"\n" not in chunk and b"\r" not in chunk:
                self._hold(len(chunk))
                return []
            chunk = bytes(self._tail)
            self._tail.clear()
        lines = chunk.splitlines()
        if lines and not chunk.endswith((b"\n", b"\r")):
            self._tail += lines.pop()
            self._hold(len(self._tail))
        return self._read(lines)

    def close(self) -> list[bytes]:
        """The data of the event that the end of the stream completes: not all servers end the last."""
        self.names = []
        lines = [bytes(self._tail), b""]
        self._tail.clear()
        return self._read(lines)

    def _read(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        if self._is_fresh and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            self._is_fresh = False
        for line in lines:
            if not line:
                if event := data[0] if len(data) == 1 else b"\n".join(data):
                    events.append(event)
                    self.names.append(self._name)
                data.clear()
                self._name = b""
                self._held = len(self._tail)
            elif line.startswith(b"data:"):
                data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._hold(len(line))
            elif line.startswith(b"event:"):
                self._name = line[7:] if line[6:7] == b" " else line[6:]
        return events

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")
