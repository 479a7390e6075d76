"""A server: uvicorn over the API, the store's one writer for as long as it runs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from threadpoolctl import threadpool_limits

from limner.app import Limner
from limner.app.delivering import Deliveries
from limner.config import Config
from limner.errors import ConfigError, UsageError
from limner.serve import onlookers
from limner.serve.background import Trainer, Warming
from limner.serve.connection import Connection
from limner.serve.door import is_local
from limner.serve.http import api
from limner.serve.schedule import Schedule
from limner.serve.speech import quietly
from limner.serve.stream import Streams
from limner.stores import api_keys, home_of


def serve(config: Config, *, say: Callable[[str], None] = print) -> None:
    """Open the store as its writer and answer until SIGTERM or SIGINT; then nothing is lost.

    `say` is told the URL once requests are accepted. Raises ConfigError if the address is open
    to others and no key is set, UsageError if it cannot be bound, StoreBusy.
    """
    quietly(config.serve.log)
    with _listen(config) as listening:
        host, port = listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        with Limner.open(config=config, holder=f"limner serve at {url}") as app:
            app.warm()
            trainer, warming = Trainer(app), Warming(app)
            jobs = app.jobs(trainer.train, trainer.update)
            schedule = Schedule(jobs)
            deliveries = Deliveries(app)
            answering = api(app, trainer, jobs)
            server = _Server(
                uvicorn.Config(
                    answering,
                    http=Connection,
                    log_level="warning",
                    log_config=None,
                    access_log=False,  # paths name users
                    server_header=False,
                    lifespan="off",
                    timeout_graceful_shutdown=10,
                )
            )
            server.streams = answering.state.streams
            schedule.start()
            app.following.start()
            warming.start()
            deliveries.start()
            try:
                # a list is many small products: threads of BLAS that wait for each other on cores
                # that others use make them ten times as slow
                with _quiet_signals(), threadpool_limits(1, user_api="blas"):
                    say(url)
                    server.run(sockets=[listening])
            finally:
                answering.state.lots.close()
                onlookers.close(answering)
                deliveries.stop()
                trainer.stop()
                warming.stop()
                app.following.close()
                schedule.stop()


class _Server(uvicorn.Server):
    """Ends streams before it waits for the requests under way to be answered."""

    streams: Streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop answering; nothing that is under way is lost."""
        self.streams.end()
        await super().shutdown(sockets)


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Let the signals that uvicorn raises again after its shutdown do nothing."""
    caught = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in caught]
    try:
        yield
    finally:
        for number, old in zip(caught, before, strict=True):
            signal.signal(number, old)


def _listen(settings: Config) -> socket.socket:
    """A socket that listens where the configuration says."""
    config = settings.serve
    try:
        family, _, _, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM
        )[0]
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"{config.host}:{config.port} is no address: {error}", mend="give another --host"
        ) from None
    if not is_local(str(address[0])) and not config.api_key and not _keyed(settings.store):
        raise ConfigError(
            f"{config.host} can be reached from other machines, and no API key is set",
            where="serve",
            mend="make one with limner keys add, set LIMNER_API_KEY, or bind 127.0.0.1",
        )
    # Named as TCP, so that asyncio sends small answers at once (TCP_NODELAY): 40 ms each else.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"{config.host}:{config.port} cannot be bound: {error.strerror}",
            mend="is a server running there already? choose another with --port",
        ) from None
    return listening


def _keyed(store: str) -> bool:
    """Whether a store has a key that opens."""
    home = home_of(store)
    if home is None or not Path(store.removeprefix("sqlite:///")).exists():
        return False
    return any(not key.revoked_at for key in api_keys(store).every())
