"""A phone for adb, at the level of its wire protocol, on the loopback.

::

    adb ◀─tcp─▶ FakeAdbd: CNXN, AUTH, OPEN, OKAY, WRTE, CLSE
                   ├── sync:           push and pull, in a folder of this machine
                   └── shell,v2,…:    a handler's output and exit code, framed

After AOSP's packages/modules/adb: protocol.txt, SYNC.TXT, shell_protocol.h.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

VERSION, MAX_DATA = 0x01000001, 256 * 1024
TOKEN = 1
STDOUT, EXIT = 1, 3
CHUNK = 64 * 1024

Shell = Callable[[str, Path], tuple[str, int]]
"""Of a script and the phone's root folder: what it prints, and its exit code."""


class Disconnect(Exception):
    """Raised by a handler: the phone goes away in the middle of a command."""


class FakeAdbd:
    """One phone.

    Args:
        root: The folder that is its file system.
        shell: Carries out shell commands.
        authorised: Whether it accepts the computer's key.
        full: Whether its storage is full.
    """

    def __init__(
        self, root: Path, shell: Shell, *, authorised: bool = True, full: bool = False
    ) -> None:
        self.root, self.shell, self.authorised, self.full = root, shell, authorised, full
        self.port = 0
        self.pushed: dict[str, int] = {}
        self._connections: list[_Connection] = []

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in a thread; gives the serial that adb connects to."""
        ready, stop = threading.Event(), asyncio.Event()
        loops: list[asyncio.AbstractEventLoop] = []

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()
            server.close()
            for connection in self._connections:
                connection.drop()
            await asyncio.gather(
                *(open_connection.done.wait() for open_connection in self._connections)
            )

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert ready.wait(60)
        try:
            yield f"127.0.0.1:{self.port}"
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.append(connection)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await connection.run()
        for task in connection.tasks:
            task.cancel()
        await asyncio.gather(*connection.tasks, return_exceptions=True)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        connection.done.set()


class _Connection:
    def __init__(
        self, phone: FakeAdbd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._phone, self._reader, self._writer = phone, reader, writer
        self._streams: dict[int, _Stream] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.done = asyncio.Event()

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        (number,) = struct.unpack("<I", command)
        head = (number, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        self._writer.write(struct.pack("<6I", *head) + data)

    def drop(self) -> None:
        self._writer.transport.abort()

    async def run(self) -> None:
        while True:
            head = struct.unpack("<6I", await self._reader.readexactly(24))
            assert head[0] ^ 0xFFFFFFFF == head[5]
            data = await self._reader.readexactly(head[3])
            self._handle(struct.pack("<I", head[0]), head[1], head[2], data)

    def _handle(self, command: bytes, first: int, second: int, data: bytes) -> None:
        if command in {b"CNXN", b"AUTH"}:
            if self._phone.authorised:
                banner = b"device::ro.product.name=fake;ro.product.model=Fake;features=shell_v2,cmd"
                self.send(b"CNXN", VERSION, MAX_DATA, banner)
            elif first != 3:  # a public key is shown to the user, who does not answer
                self.send(b"AUTH", TOKEN, 0, bytes(20))
        elif command == b"OPEN":
            number = len(self._streams) + 1
            stream = self._streams[number] = _Stream(self, number, first)
            self.send(b"OKAY", number, first)
            self.tasks.append(asyncio.ensure_future(self._open(stream, data.rstrip(b"\0"))))
        elif command == b"WRTE":
            self._streams[second].incoming.feed_data(data)
            self.send(b"OKAY", second, first)
        elif command == b"OKAY":
            self._streams[second].written.set()
        elif command == b"CLSE" and second in self._streams:
            self._streams[second].incoming.feed_eof()

    async def _open(self, stream: "_Stream", service: bytes) -> None:
        name = service.decode()
        try:
            if name.startswith("sync:"):
                await _sync(self._phone, stream)
            elif name.startswith("shell,v2,"):
                await self._shell(stream, name.partition(":")[2])
        except Disconnect:
            self.drop()
            return
        except asyncio.IncompleteReadError:
            pass
        self.send(b"CLSE", stream.number, stream.peer)

    async def _shell(self, stream: "_Stream", script: str) -> None:
        loop = asyncio.get_running_loop()
        output, code = await loop.run_in_executor(None, self._phone.shell, script, self._phone.root)
        text = output.encode()
        frames = struct.pack("<BI", STDOUT, len(text)) + text + struct.pack("<BIB", EXIT, 1, code)
        await stream.write(frames)


class _Stream:
    def __init__(self, connection: _Connection, number: int, peer: int) -> None:
        self._connection, self.number, self.peer = connection, number, peer
        self.incoming, self.written = asyncio.StreamReader(), asyncio.Event()

    async def read(self, count: int) -> bytes:
        return await self.incoming.readexactly(count)

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self.written.clear()
            self._connection.send(b"WRTE", self.number, self.peer, data[start : start + CHUNK])
            await self.written.wait()


async def _sync(phone: FakeAdbd, stream: _Stream) -> None:
    while True:
        request, length = struct.unpack("<4sI", await stream.read(8))
        if request == b"QUIT":
            return
        name = (await stream.read(length)).decode()
        if request == b"STAT":
            await stream.write(b"STAT" + _stat(phone.path(name)))
        elif request == b"SEND":
            await _receive(phone, stream, *name.rsplit(",", 1))
        elif request == b"RECV":
            await stream.write(_content(phone.path(name)))


def _stat(path: Path) -> bytes:
    if not path.exists():
        return bytes(12)
    found = path.stat()
    return struct.pack("<3I", found.st_mode, found.st_size, int(found.st_mtime))


async def _receive(phone: FakeAdbd, stream: _Stream, name: str, mode: str) -> None:
    content = b""
    while True:
        part, length = struct.unpack("<4sI", await stream.read(8))
        if part == b"DONE":
            break
        content += await stream.read(length)
    if phone.full:
        fault = b"couldn't write to '" + name.encode() + b"': No space left on device"
        await stream.write(struct.pack("<4sI", b"FAIL", len(fault)) + fault)
        return
    path = phone.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    phone.pushed[name] = int(mode)
    await stream.write(struct.pack("<4sI", b"OKAY", 0))


def _content(path: Path) -> bytes:
    if not path.is_file():
        fault = b"No such file or directory"
        return struct.pack("<4sI", b"FAIL", len(fault)) + fault
    data = path.read_bytes()
    parts = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    framed = b"".join(struct.pack("<4sI", b"DATA", len(part)) + part for part in parts)
    return framed + struct.pack("<4sI", b"DONE", 0)
