"""A lab as the screens run it: started, followed, kept, and held against the learner's guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmquiz.lab import runner
from llmquiz.lab.predictions import PredictionScore, score
from llmquiz.lab.record import to_record
from llmquiz.lab.state import RunState
from llmquiz.store.records import PredictionRecord

if TYPE_CHECKING:
    from llmquiz.core.card import LabLink
    from llmquiz.lab.server import ForkServer
    from llmquiz.tui.services import Services


class Experiment:
    """One run. `state` is what is known of it so far.

    Args:
        link: the lab, its parameters, and the metric that was guessed.
        card: id of the card that the lab was opened from.
        server: a warm process that can take the run, or None.

    Raises:
        LlmquizError: if there is no such lab, packages that it needs are missing, or a parameter does not fit.
    """

    def __init__(self, services: Services, link: LabLink, card: str | None, server: ForkServer | None) -> None:
        self._services = services
        self._card = card
        self._metric = link.metric
        self.lab = services.lab(link.lab)
        self.state = RunState()
        self._params = dict(link.params)
        self._started_at = services.clock()
        self._run = runner.start(self.lab, self._params, server=server)

    async def follow(self, on_event: Callable[[], None]) -> None:
        """Take in events until the last; `on_event` is called after each."""
        async for event in self._run:
            self.state.apply(event)
            on_event()

    async def stop(self) -> None:
        """End the run and its processes; the events that it still has come to `follow`."""
        await self._run.cancel()

    def keep(self, guess: float | None) -> PredictionScore | None:
        """Store the run, and the guess with its score where one was made and its number was measured.

        Raises:
            StoreError: if it cannot be written.
        """
        store, card, metric = self._services.store, self._card, self._metric
        run = store.add_run(to_record(self.lab, self._params, self.state, started_at=self._started_at, card=card))
        if guess is None or card is None or metric is None or (measured := self.state.metrics.get(metric)) is None:
            return None
        judged = score(guess, measured, self.lab.manifest.prediction(metric).within)
        now = self._services.clock()
        store.add_prediction(PredictionRecord(card, metric, guess, now, run, measured, judged.verdict.value))
        return judged
