"""A card's lab in the line mode: run it, tell what happens in lines, keep the run, score the learner's guess."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from llmquiz.core.card import Card, Lang
from llmquiz.core.day import Clock
from llmquiz.core.errors import UsageError
from llmquiz.core.rating import Rating
from llmquiz.lab.catalog import Catalog, Lab
from llmquiz.lab.events import ClaimTested, Event, MetricMeasured, Noted, Progressed, RunEnded, RunStarted
from llmquiz.lab.predictions import score
from llmquiz.lab.record import to_record
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.state import RunState
from llmquiz.store import Store
from llmquiz.store.records import PredictionRecord
from llmquiz.study.words import duration, rating_word, word

_STEP = 0.25  # of the work between two lines about progress


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs the labs of cards. Calling it is `llmquiz.study.plain.Tools.measure`."""

    store: Store
    catalog: Catalog
    clock: Clock
    lang: Lang

    def __call__(self, card: Card, guess: float | None, say: Callable[[str], None]) -> Rating | None:
        """Run the card's lab; the rating that the guess suggests, None without one. Ctrl+C stops the lab alone.

        Raises:
            LabError: if the lab cannot run, or ended without the number that was to be guessed.
            UsageError: if the card has no lab, there is no such lab, or a parameter does not fit.
        """
        if card.lab is None:
            raise UsageError(f"card '{card.id}' has no lab; it can only be answered")
        lab = self.catalog.find(card.lab.lab)
        say(word("lab_starting", self.lang, lab=lab.name))
        state, started_at = RunState(), self.clock()
        teller = _Teller(lab, self.lang, say, state)
        with suppress(KeyboardInterrupt):  # the lab's end has been told; the session goes on
            run_blocking(lab, card.lab.params, teller)
        run = self.store.add_run(to_record(lab, card.lab.params, state, started_at=started_at, card=card.id))
        if guess is None or card.lab.metric is None or state.ended is None:
            return None
        return self._scored(card, lab, card.lab.metric, guess, state.metrics.get(card.lab.metric), run, say)

    def _scored(
        self,
        card: Card,
        lab: Lab,
        metric: str,
        guess: float,
        measured: float | None,
        run: int,
        say: Callable[[str], None],
    ) -> Rating:
        judged = score(guess, measured, lab.manifest.prediction(metric).within)
        self.store.add_prediction(
            PredictionRecord(card.id, metric, guess, self.clock(), run, measured, judged.verdict.value)
        )
        unit = lab.manifest.metrics[metric].unit
        say(
            word(
                "guess_scored",
                self.lang,
                guess=_number(guess, unit),
                measured=_number(measured or 0.0, unit),
                factor=f"{judged.factor:.2g}",
                rating=rating_word(judged.rating, self.lang),
            )
        )
        return judged.rating


@dataclass(slots=True)
class _Teller:
    """Turns events into lines, progress in quarters."""

    lab: Lab
    lang: Lang
    say: Callable[[str], None]
    state: RunState
    _told: tuple[str, int] = field(default=("", 0), init=False)

    def __call__(self, event: Event) -> None:
        self.state.apply(event)
        if line := self._line(event):
            self.say(line)

    def _line(self, event: Event) -> str | None:
        match event:
            case RunStarted():
                return word("lab_started", self.lang, lab=self.lab.name, device=event.device)
            case Progressed():
                return self._progress(event)
            case MetricMeasured(name, value):
                return f"{name}: {_number(value, self.lab.manifest.metrics[name].unit)}"
            case ClaimTested():
                claim = self.lab.manifest.claims[event.name]
                verdict = word("claim_held" if event.held else "claim_broken", self.lang)
                return f"{claim.texts.get(self.lang) or claim.name} {verdict}"
            case Noted(text):
                return text
            case RunEnded():
                return self._ended(event)
        return None

    def _progress(self, event: Progressed) -> str | None:
        if not event.total:
            return None
        now = (event.label, int(event.done / event.total / _STEP))
        if now == self._told:
            return None
        self._told = now
        return " ".join(part for part in (event.label, f"{event.done}/{event.total}", event.unit) if part)

    def _ended(self, event: RunEnded) -> str:
        outcome = word(f"outcome_{event.outcome}", self.lang)
        line = word("lab_ended", self.lang, outcome=outcome, time=duration(event.seconds, self.lang))
        return f"{line} {event.error}" if event.error else line


def _number(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()
