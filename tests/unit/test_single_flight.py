"""Requests for one key share one computation, which ends once nobody waits for it."""

import asyncio

import pytest

from services.answering.single_flight import Flights, Lease


async def _number() -> int:
    await asyncio.sleep(0)
    return 7


async def _failure() -> int:
    raise ValueError("no number")


def test_all_requests_get_the_result_of_one_flight() -> None:
    async def run() -> tuple[list[int], bool, bool]:
        flights = Flights[int]()
        flight = flights.start("k", _number(), Lease(), ends_at=1.0, caller="")
        was_open = flights.get("k") is flight
        numbers = await asyncio.gather(*(flights.join("k", flight) for _ in range(3)))
        return numbers, was_open, "k" in flights

    assert asyncio.run(run()) == ([7, 7, 7], True, False)


def test_all_requests_get_the_error_of_a_flight() -> None:
    async def run() -> list[int | BaseException]:
        flights = Flights[int]()
        flight = flights.start("k", _failure(), Lease(), ends_at=1.0, caller="")
        joined = (flights.join("k", flight) for _ in range(2))
        return await asyncio.gather(*joined, return_exceptions=True)

    assert [repr(error) for error in asyncio.run(run())] == ["ValueError('no number')"] * 2


def test_a_flight_ends_with_its_last_request() -> None:
    async def run() -> list[bool]:
        flights = Flights[None]()
        flight = flights.start("k", asyncio.sleep(60), Lease(), ends_at=1.0, caller="")
        requests = [asyncio.create_task(flights.join("k", flight)) for _ in range(2)]
        states = []
        for request in requests:
            await asyncio.sleep(0)
            request.cancel()
            await asyncio.wait([request])
            states.append("k" in flights)
        await asyncio.wait([flight.task])
        return [*states, flight.task.cancelled()]

    assert asyncio.run(run()) == [True, False, True]


def test_a_closed_lease_accepts_no_token() -> None:
    lease = Lease()
    assert lease.accept("first")
    assert lease.close() == "first"
    assert not lease.accept("second")
    assert lease.token == "first"


@pytest.mark.parametrize(("token", "is_granted"), [("t", True), ("", False)])
def test_waiting_for_a_lease_ends_when_it_is_granted(token: str, is_granted: bool) -> None:
    async def run() -> bool:
        lease = Lease()
        wait = asyncio.create_task(lease.wait_granted(60 if token else 0.01))
        await asyncio.sleep(0)
        if token:
            lease.accept(token)
        await wait
        return lease.token == "t"

    assert asyncio.run(run()) is is_granted
