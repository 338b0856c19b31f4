"""Reads of Redis that share round trips: what is asked while an answer is awaited goes out together, next.

redis-py spends some 150 µs of Python on a command, most of it around the command and not on it. Here that is paid per
round trip. A read is sent after it was asked for, never answered with what an earlier one has found.
"""

import asyncio
import math
from collections.abc import Sequence

from stores.redis_client import ConnectionLost, Redis, ResponseError

Fields = list[bytes | None]

_Asked = list[tuple[bytes, asyncio.Future[Fields]]]


class BatchedReads:
    """Reads of some fields of hashes. Within one event loop; takes a connection of the client's pool while it is
    busy.
    """

    def __init__(self, client: Redis, fields: Sequence[str], seconds: float) -> None:
        self._pool = client.connection_pool
        self._begin = f"*{2 + len(fields)}\r\n$5\r\nHMGET\r\n$".encode()
        self._end = "".join(["\r\n", *(f"${len(field)}\r\n{field}\r\n" for field in fields)]).encode()
        self._seconds = seconds
        self._asked: _Asked = []
        self._busy: asyncio.Task[None] | None = None

    async def get(self, key: str) -> Fields:
        """The fields of the hash at `key`, None for one that is not there. A caller that gives up leaves the others
        alone.

        Raises RedisError, or TimeoutError when a round trip takes longer than `seconds`.
        """
        answer: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._asked.append((key.encode(), answer))
        if self._busy is None:
            self._busy = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                await self._answer(asked)
        finally:
            self._busy = None

    async def _answer(self, asked: _Asked) -> None:
        try:
            try:
                await self._round_trip(asked)
            except ConnectionLost:
                # Once more at once: a pooled connection may be the one that a restart of Redis has closed.
                await self._round_trip([(key, answer) for key, answer in asked if not answer.done()])
        except asyncio.CancelledError:
            for _, answer in (*asked, *self._asked):
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 (raised where it was asked for)
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)

    async def _round_trip(self, asked: _Asked) -> None:
        async with asyncio.timeout(self._seconds):
            await self._exchange(asked)

    async def _exchange(self, asked: _Asked) -> None:
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            commands = [b"%b%d\r\n%b%b" % (self._begin, len(key), key, self._end) for key, _ in asked]
            await connection.send_packed_command(b"".join(commands), check_health=False)
            for _, answer in asked:
                try:
                    # No clock for each answer: the round trip has one.
                    found = await connection.read_response(disable_decoding=True, timeout=math.inf)
                except ResponseError as error:
                    found = error
                if answer.done():
                    continue  # its caller has given up
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)
        finally:
            await self._pool.release(connection)
