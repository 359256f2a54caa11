"""A load generator in a process of its own: raw HTTP/1.1 over keep-alive connections.

Usage: python load.py PORT CONNECTIONS SECONDS EVENTS TAG; prints one JSON line.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop


class Connection(asyncio.Protocol):
    """Posts one occurrence after another, each under a new key, until the time is over."""

    def __init__(self, number: int, events: int, tag: str, until: float) -> None:
        self.number = number
        self.events = events
        self.tag = tag
        self.until = until
        self.sent = 0
        self.asked = 0.0
        self.answer = b""
        self.seconds: list[float] = []
        self.wrong: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.post()

    def post(self) -> None:
        self.asked = time.perf_counter()
        if self.asked >= self.until:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent += 1
        event = (self.number * 7919 + self.sent) % self.events
        name = f"{self.tag}-{self.number}-{self.sent}"
        body = f'{{"action":"trigger","key":"{name}","source":"bench","id":"{name}"}}'
        self.transport.write(
            f"POST /r/event/bench:event:{event} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.wrong.append(self.answer[:200])
        self.answer = b""
        self.seconds.append(time.perf_counter() - self.asked)
        self.post()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def load(port: int, connections: int, seconds: float, events: int, tag: str) -> None:
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda n=n: Connection(n, events, tag, began + seconds), "127.0.0.1", port
        )
        for n in range(connections)
    ]
    protocols = [protocol for _, protocol in made]
    await asyncio.gather(*(protocol.done for protocol in protocols))
    took = time.perf_counter() - began
    times = sorted(one for protocol in protocols for one in protocol.seconds)
    wrong = [one for protocol in protocols for one in protocol.wrong]
    if wrong:
        sys.exit(f"{len(wrong)} wrong answers, such as {wrong[0]!r}")
    print(
        json.dumps(
            {
                "per_second": len(times) / took,
                "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100],
                "count": len(times),
            }
        )
    )


if __name__ == "__main__":
    port, connections, seconds, events, tag = sys.argv[1:]
    uvloop.run(load(int(port), int(connections), float(seconds), int(events), tag))
