"""How batches are answered ahead of the framework: outcomes in bulk, one timer, the same answer."""

from __future__ import annotations

import asyncio
import json
import threading

import msgspec
import pytest

from watchstep_monitor.http.deadlines import Deadline
from watchstep_monitor.http.run_models import Receipt
from watchstep_monitor.service.ingest import batch
from watchstep_monitor.service.outcomes import LoopOutcomes


def test_what_a_commit_settles_wakes_the_loop_once() -> None:
    async def story() -> tuple[list[object], int]:
        loop, outcomes = asyncio.get_running_loop(), LoopOutcomes()
        waiting = [outcomes.new() for _ in range(5)]
        wakes = []
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *call: wakes.append(wake(*call))  # type: ignore[method-assign]

        def commit() -> None:
            for number, outcome in enumerate(waiting[:4]):
                outcome.set_result(number)
            waiting[4].set_exception(ValueError("no"))

        writing = threading.Thread(target=commit)
        writing.start()
        writing.join()
        came = await asyncio.gather(*(each.future for each in waiting), return_exceptions=True)
        return came, len(wakes)

    came, wakes = asyncio.run(story())

    assert came[:4] == [0, 1, 2, 3]
    assert isinstance(came[4], ValueError)
    assert wakes == 1


def test_a_job_whose_caller_gave_up_is_not_begun_and_what_comes_late_is_dropped() -> None:
    async def story() -> tuple[bool, bool]:
        outcomes = LoopOutcomes()
        given_up, late = outcomes.new(), outcomes.new()
        given_up.future.cancel()
        begun = late.set_running_or_notify_cancel()
        late.future.cancel()
        late.set_result(1)
        await asyncio.sleep(0)
        return given_up.set_running_or_notify_cancel(), begun

    assert asyncio.run(story()) == (False, True)


def test_every_task_that_waits_too_long_has_a_timeout_and_the_others_none() -> None:
    async def story() -> list[object]:
        deadline, never = Deadline(0.05), asyncio.get_running_loop().create_future()

        async def wait(future: asyncio.Future[str]) -> str:
            with deadline:
                return await future

        soon = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(wait(each)) for each in (never, soon, never)]
        await asyncio.sleep(0)
        soon.set_result("in time")
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(story())

    assert isinstance(first, TimeoutError)
    assert second == "in time"
    assert isinstance(third, TimeoutError)


def test_a_task_that_someone_else_cancels_is_cancelled() -> None:
    async def story() -> None:
        async def wait() -> None:
            with Deadline(60.0):
                await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())


def test_the_short_way_writes_the_document_of_the_model() -> None:
    receipt = batch.Receipt(3, 1, (), 9, (), "f" * 64, 2, 4, {"outside": 7})

    document = json.loads(msgspec.json.encode(receipt))

    assert document == json.loads(Receipt.model_validate(receipt).model_dump_json())
