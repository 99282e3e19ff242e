"""A receiver of webhooks for the benchmark: `python -m tests.bench.receiver PORT MILLISECONDS`. It prints how many messages arrived."""

import asyncio
import sys

RESPONSE = b"HTTP/1.1 204 No Content\r\n\r\n"


async def serve(port: int, delay_seconds: float) -> None:
    """Answer each message after a delay, and print how many have arrived, ten times a second."""
    received = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                received += 1
                if delay_seconds:
                    await asyncio.sleep(delay_seconds)
                writer.write(RESPONSE)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    async with server:
        while True:
            sys.stdout.write(f"{received}\n")
            sys.stdout.flush()
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]) / 1000))
