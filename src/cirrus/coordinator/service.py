"""The coordinator's loop: inbox → one transaction → replies and orders. Servers are serve.py's."""

import asyncio
import itertools
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from cirrus.clock import Clock
from cirrus.coordinator.feed import Feed
from cirrus.coordinator.roster import Roster
from cirrus.coordinator.tokens import Tokens
from cirrus.coordinator.turn import Speech, turn
from cirrus.core.decision import Answer, Sent
from cirrus.core.inputs import HelloSaid, Input, Present, Reported, TimePassed
from cirrus.core.messages import (
    Accepted,
    Ended,
    Greet,
    Heartbeat,
    Hello,
    LogRead,
    Order,
    Outcome,
    ReadLog,
    Report,
    Run,
    Started,
    Welcome,
)
from cirrus.core.model import executor_of
from cirrus.errors import CirrusError, Defect, Refused, StoreBroken, Unavailable
from cirrus.store.base import Writer
from cirrus.store.reader import Reader

log = logging.getLogger(__name__)

INBOX_MOST = 20_000
"""So many inputs may wait for their transaction; one more is answered with `unavailable`."""
BATCH_MOST = 500
TICK_SECONDS = 1.0
INPUTS_MOST = 15 * 2**20
"""Bytes of a job's inputs.json: an order must fit into one message."""
LOG_SECONDS = 15.0
"""How long a dispatcher may take to send a piece of a log."""

T = TypeVar("T")


class Sender(Protocol):
    """The link to the dispatchers, as this loop uses it."""

    def send(self, dispatcher: str, orders: Sequence[Order]) -> bool: ...


class _Nobody:
    """Before there is a link. What is not heard is said again."""

    def send(self, dispatcher: str, orders: Sequence[Order]) -> bool:
        del dispatcher, orders
        return False


class _Asked(msgspec.Struct):
    what: Input
    answer: asyncio.Future[tuple[Answer, ...]] | None


class Coordinator:
    """Owns the store's thread. Every method but `_decide` runs on the event loop's thread."""

    def __init__(self, store: Writer, reader: Reader, clock: Clock, tokens: Tokens) -> None:
        self.feed = Feed()
        self.tokens = tokens
        self.failure: BaseException | None = None
        """What ended the store's thread: the process must end too, and be started again."""
        self._store = store
        self._reader = reader
        self._link: Sender = _Nobody()
        self._clock = clock
        self._roster = Roster()
        self._listening_since = clock.now()
        self._inbox: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._waiting = 0
        self._requests = itertools.count(1)
        self._log_requests: dict[int, asyncio.Future[LogRead]] = {}
        self._listen_for_jobs: Callable[[str], str] = lambda _gateway: ""
        self._gateways: dict[str, str] = {}
        """The address of the job listener on each gateway: HOST:PORT."""
        self.stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._decide, name="store", daemon=True)

    # --- what others ask ------------------------------------------------------------------------

    async def ask(self, what: Input) -> tuple[Answer, ...]:
        """Decide and commit. Raises Refused, StorageFull, Unavailable."""
        if self._waiting >= INBOX_MOST or self.failure is not None:
            raise Unavailable("coordinator", "too much waits to be decided: try again in a moment")
        answer: asyncio.Future[tuple[Answer, ...]] = self._loop.create_future()
        self._tell(what, answer)
        return await answer

    async def read(self, question: Callable[[Reader], T]) -> T:
        """Answer from what is committed; it waits for no transaction."""
        return await self._reader.ask(question)

    def present(self) -> tuple[Present, ...]:
        return self._roster.present

    def ready(self) -> bool:
        return self.failure is None and self._thread.is_alive()

    def attempt_of(self, token: str) -> tuple[str, int] | None:
        return self.tokens.attempt_of(token)

    async def read_log(self, job: str, attempt: int, offset: int, length: int) -> LogRead:
        """A piece of an attempt's log from its dispatcher. Raises Unavailable when that is away."""
        dispatcher = await self.read(lambda reader: reader.dispatcher_of(job, attempt))
        request = next(self._requests)
        answer: asyncio.Future[LogRead] = self._loop.create_future()
        self._log_requests[request] = answer
        try:
            async with asyncio.timeout(LOG_SECONDS):
                if not self._link.send(
                    dispatcher, [ReadLog(request, job, attempt, offset, length)]
                ):
                    raise Unavailable(dispatcher, "this dispatcher has the log, and is away")
                return await answer
        except TimeoutError as error:
            raise Unavailable(dispatcher, "this dispatcher does not send the log") from error
        finally:
            del self._log_requests[request]

    def speak_through(self, link: Sender) -> None:
        """From now on orders go here."""
        self._link = link

    def serve_jobs_through(self, listen: Callable[[str], str]) -> None:
        """`listen` opens the job listener on a gateway and answers HOST:PORT, or nothing."""
        self._listen_for_jobs = listen

    # --- what dispatchers say -------------------------------------------------------------------

    def heard(self, dispatcher: str, reports: list[Report]) -> None:
        now = self._clock.now()
        for report in reports:
            match report:
                case Hello():
                    self._open_gateways(report)
                    self._roster.hello(report, now)
                    self._tell(HelloSaid(report))
                case Heartbeat():
                    known = self._roster.beat(dispatcher, report.live, now)
                    answer = Welcome(self._store.instance) if known else Greet()
                    self._link.send(dispatcher, [answer])
                case LogRead():
                    request = self._log_requests.get(report.request)
                    if request is not None and not request.done():
                        request.set_result(report)
                case Accepted() | Started() | Ended():
                    self._tell(Reported(dispatcher, report))

    def _open_gateways(self, hello: Hello) -> None:
        """Before its dispatcher gets any work: every job is to know where we are."""
        for gateway in {offer.gateway for offer in hello.offers} - {"", *self._gateways}:
            if address := self._listen_for_jobs(gateway):
                self._gateways[gateway] = address

    # --- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide until `close`. Raises what made deciding impossible."""
        self._thread.start()
        try:
            while not self.stopped.is_set():
                self._roster.look(self._clock.now())
                self._tell(TimePassed(self._roster.present, self._listening_since))
                try:
                    async with asyncio.timeout(TICK_SECONDS):
                        await self.stopped.wait()
                except TimeoutError:
                    continue
        finally:
            self._inbox.put(None)
            await asyncio.to_thread(self._thread.join)
        if self.failure is not None:
            raise self.failure

    def _tell(self, what: Input, answer: asyncio.Future[tuple[Answer, ...]] | None = None) -> None:
        self._waiting += 1
        self._inbox.put(_Asked(what, answer))

    def _decide(self) -> None:
        """The store's thread: everything that waits is one batch, one transaction."""
        while (first := self._inbox.get()) is not None:
            batch = [first]
            while len(batch) < BATCH_MOST and not self._inbox.empty():
                following = self._inbox.get()
                if following is None:
                    self._inbox.put(None)
                    break
                batch.append(following)
            try:
                self._take_turn(batch)
            except BaseException as error:  # noqa: BLE001  (the top of the loop: it is passed on)
                self.failure = error
                self._loop.call_soon_threadsafe(self._give_up, batch, error)
                return

    def _take_turn(self, batch: list[_Asked]) -> None:
        inputs = [asked.what for asked in batch]
        try:
            speech = turn(self._store, inputs, self._roster.present, self._clock.now())
        except StoreBroken:
            raise
        except CirrusError as error:
            self._loop.call_soon_threadsafe(self._speak, batch, error)
        except Exception as error:
            # A defect of ours. Alone, each input harms only the one who sent it.
            if len(batch) > 1:
                for asked in batch:
                    self._take_turn([asked])
                return
            log.exception("input not decided", extra={"input": type(inputs[0]).__name__})
            self._loop.call_soon_threadsafe(self._speak, batch, Defect(error))
        else:
            self._loop.call_soon_threadsafe(self._speak, batch, speech)

    def _speak(self, batch: list[_Asked], speech: Speech | CirrusError) -> None:
        self._waiting -= len(batch)
        if isinstance(speech, CirrusError):
            log.error("batch not committed", extra={"size": len(batch), "problem": str(speech)})
            for asked in batch:
                _settle(asked.answer, speech)
            return
        for asked, answer in zip(batch, speech.answers, strict=True):
            _settle(asked.answer, answer)
        self._send(speech.orders)
        self.feed.publish(speech.last_seq)

    def _send(self, orders: list[Sent]) -> None:
        by_dispatcher: dict[str, list[Order]] = defaultdict(list)
        for sent in orders:
            order = sent.order
            if isinstance(order, Run):
                if len(order.inputs) > INPUTS_MOST:
                    self._refuse(sent.dispatcher, order)
                    continue
                order = self._addressed(sent.dispatcher, order)
            by_dispatcher[sent.dispatcher].append(order)
        for dispatcher, its_orders in by_dispatcher.items():
            # What is not heard is said again: see core/jobs.py.
            self._link.send(dispatcher, its_orders)

    def _refuse(self, dispatcher: str, order: Run) -> None:
        """What no message can carry fails the job, as if its dispatcher had said so."""
        reason = f"its inputs are {len(order.inputs)} bytes: at most {INPUTS_MOST} can be sent"
        outcome = Outcome("refused", reason=reason)
        self._tell(Reported(dispatcher, Ended(order.job, order.attempt, outcome, None, None)))

    def _addressed(self, dispatcher: str, order: Run) -> Run:
        """Add the address where this attempt reaches us. It holds the token: never stored."""
        present = self._roster.get(dispatcher)
        executor = executor_of(order.activity)
        offers = present.offers if present is not None else ()
        gateway = next((offer.gateway for offer in offers if offer.executor == executor), "")
        if gateway not in self._gateways:
            return order
        token = self.tokens.token(order.job, order.attempt)
        url = f"http://job:{token}@{self._gateways[gateway]}"
        return msgspec.structs.replace(order, environment={**order.environment, "CIRRUS_URL": url})

    def _give_up(self, batch: list[_Asked], error: BaseException) -> None:
        log.critical("deciding failed", exc_info=error)
        for asked in batch:
            _settle(
                asked.answer,
                Unavailable("coordinator", "it is ending after an error: try again in a moment"),
            )
        self.stopped.set()


def _settle(
    future: asyncio.Future[Any] | None, answer: tuple[Answer, ...] | CirrusError | Refused
) -> None:
    if future is None or future.done():
        return
    if isinstance(answer, CirrusError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
