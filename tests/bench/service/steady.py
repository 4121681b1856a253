"""Open-loop load: requests leave when they are due, whether or not those before them are answered."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp
import numpy as np

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request; times by `perf_counter`."""

    number: int
    path: str
    due: float
    """When it was to leave: what it waited for this client counts as the service's."""
    answered: float
    status: int
    """0: there was no answer."""
    body: Any
    """Of an answer with 200: its JSON."""
    text: str = ""
    """Of another answer."""


async def steady(
    url: str, request: Callable[[int], tuple[str, Any]], numbers: Sequence[int], per_second: float
) -> list[Answer]:
    """Send requests at a constant rate and return the answers, in order.

    Args:
        url: of the service.
        request: gives path and JSON body of a request by its number.
        numbers: of the requests.
        per_second: how many leave in a second.
    """
    return await timed(url, request, numbers, [place / per_second for place in range(len(numbers))])


async def timed(
    url: str,
    request: Callable[[int], tuple[str, Any]],
    numbers: Sequence[int],
    seconds: Sequence[float],
    hear: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Send requests at given times and return the answers, in order; see `steady`.

    Args:
        url: of the service.
        request: gives path and JSON body of a request by its number.
        numbers: of the requests.
        seconds: after the beginning at which each leaves, ascending.
        hear: is given each answer when it comes.
    """
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(_TIMEOUT_S)
    async with aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session:

        async def send(number: int, due: float) -> Answer:
            path, body = request(number)
            try:
                async with session.post(path, json=body) as response:
                    got = await response.json() if response.status == 200 else None
                    text = "" if response.status == 200 else await response.text()
                    answer = Answer(number, path, due, perf_counter(), response.status, got, text)
            except (aiohttp.ClientError, TimeoutError):
                answer = Answer(number, path, due, perf_counter(), 0, None)
            hear(answer)
            return answer

        tasks, begin = [], perf_counter()
        for number, second in zip(numbers, seconds, strict=True):
            await asyncio.sleep(max(0.0, begin + second - perf_counter()))
            tasks.append(asyncio.create_task(send(number, begin + second)))
        return list(await asyncio.gather(*tasks))


def quantile_ms(answers: Sequence[Answer], q: float) -> float:
    """Return a quantile of the times to the answer."""
    return float(np.quantile([answer.answered - answer.due for answer in answers], q)) * 1e3
