"""What is learned from all events: models, what came since, and topics."""

from __future__ import annotations

import click

from limner.cli.session import Session, common, url_option, with_session


@click.command(
    epilog="\b\nExamples:\n  limner train\n  limner train --from ../cinema/limner.data\n"
    "  limner train --from 000002"
)
@click.option("--from", "start", metavar="SOURCE", default="",
              help="Start the sequence model from a version or another store's.")  # fmt: skip
@url_option
@common
@with_session
def train(session: Session, start: str, url: str) -> None:
    """Train the models on all events so far, and put them to use."""
    from limner.cli import show

    measured = None
    with session.progress() as progress:
        if url:
            training = session.remote(url).train(progress, start)
            assert training.trained is not None
            trained = training.trained
        else:
            with session.open(write=True, progress=progress) as app:
                trained = app.train(start=start, progress=progress)
                measured = app.evaluation()
    if session.json:
        session.emit(trained)
        return
    show.trained(session.console(), trained)
    if measured is not None:
        show.report(session.console(), measured)


@click.command(epilog="\b\nExample:\n  limner update")
@url_option
@common
@with_session
def update(session: Session, url: str) -> None:
    """Learn what came since the last training, and use it if it is no loss."""
    from limner.cli import show_models

    with session.progress() as progress:
        if url:
            done = session.remote(url).update(progress).updated
            assert done is not None
        else:
            with session.open(write=True, progress=progress) as app:
                done = app.update(progress=progress)
    if session.json:
        session.emit(done)
    else:
        show_models.updated(session.console(), done)


@click.command(
    epilog="\b\nExamples:\n  limner topics\n  limner topics --learn -n 20\n"
    "  limner topics --propose"
)
@click.option("--learn", is_flag=True, help="Learn them anew from what all users read and write.")
@click.option("--propose", is_flag=True,
              help="Have the language model propose some from what users wrote since.")  # fmt: skip
@click.option("-n", "n", type=click.IntRange(2, 200), default=12, help="How many topics to learn.")
@url_option
@common
@with_session
def topics(session: Session, learn: bool, propose: bool, n: int, url: str) -> int:
    """Show the topics that users' words divide into, learn them, or have some proposed."""
    from limner.cli import show
    from limner.serve.answers import TopicsInUse

    if propose:
        return _propose(session, learn, url)
    if url:
        remote = session.remote(url)
        asked = {"n": n} if learn else {}
        found = remote.ask("POST" if learn else "GET", "/v1/topics", TopicsInUse, **asked)
    else:
        with session.open(write=learn) as app:
            found = TopicsInUse.of(app.learn_topics(n) if learn else app.topics())
    if session.json:
        session.emit(found)
    else:
        show.topics(session.console(), found)
    return 0


def _propose(session: Session, learn: bool, url: str) -> int:
    from limner.cli import show
    from limner.errors import UsageError

    if learn or url:
        raise UsageError(
            f"--propose does not go with {'--learn' if learn else '--url'}",
            mend="ask for one after the other"
            if learn
            else "set llm.propose; then limner schedule --run proposing --url does it there",
        )
    with session.progress() as progress, session.open(write=True) as app:
        found = app.propose_topics(progress=progress)
    if session.json:
        session.emit(found)
    else:
        show.proposed(session.console(), found)
    return int(found.waiting)
