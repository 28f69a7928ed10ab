"""Our byte-pair encoding beside `tokenizers`, which is Rust: learning a vocabulary, encoding new text, encoding again.

The text is the corpus of the base model. Encoding is one call per document on one thread; learning in the library may
use more threads, so CPU time is compared there. Encoding again is what a cache of words buys.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers

from llmquiz.llm.data.bpe import PRE_TOKEN, SPECIAL, ByteBPE
from llmquiz.llm.data.corpus import documents

VOCABULARY = 2048
MEGABYTES = 2.5
ROUNDS = 5


def main() -> None:
    """Print seconds and megabytes per second, and that the ids are equal."""
    texts = corpus(0, MEGABYTES * 1e6)
    held_out = corpus(1, MEGABYTES * 1e6 / 5)
    ours, our_learning = timed(lambda: ByteBPE.train(texts, VOCABULARY))
    theirs, their_learning = timed(lambda: learn(texts))
    tokens = [sum(len(theirs.encode(text).ids) for text in held_out), sum(len(ours.encode(text)) for text in held_out)]
    print(f"{MEGABYTES} MB, vocabulary {ours.vocab_size}; {len(held_out)} held-out documents")
    print(f"{'':28}{'ours':>12}{'tokenizers':>12}{'ours is':>10}")
    row("learning, CPU s", our_learning, their_learning, their_learning / our_learning)
    row("tokens of held-out text", tokens[1], tokens[0], None)

    twin = in_library(ours)
    assert all(twin.encode(text).ids == ours.encode(text) for text in held_out), "ids differ"
    size = sum(len(text.encode()) for text in held_out) / 1e6
    new = [(seconds(ByteBPE(ours.merges), held_out), seconds(in_library(ours), held_out)) for _ in range(ROUNDS)]
    again = [(seconds(ours, held_out), seconds(twin, held_out)) for _ in range(ROUNDS)]
    for name, turns in (("encoding new text, MB/s", new), ("encoding it again, MB/s", again)):
        mine, other = (size / statistics.median(turn[k] for turn in turns) for k in (0, 1))
        row(name, mine, other, mine / other)


def corpus(seed: int, num_bytes: float) -> list[str]:
    """Documents of about `num_bytes` together."""
    texts: list[str] = []
    for document in islice(documents(seed), 1_000_000):
        texts.append(document.text)
        num_bytes -= len(document.text.encode())
        if num_bytes < 0:
            break
    return texts


def learn(texts: list[str]) -> Any:
    """A vocabulary by the library, from the same pre-tokens."""
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PRE_TOKEN), "isolated")
    to_bytes = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, to_bytes])
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learner.encode_special_tokens = True
    return learner


def in_library(ours: ByteBPE) -> Any:
    """Our tokenizer, read by the library."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        ours.save(path)
        theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    return theirs


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `work` and the CPU seconds of all threads."""
    start = time.process_time()
    return work(), time.process_time() - start


def seconds(encoder: Any, texts: list[str]) -> float:
    """CPU seconds of this thread to encode all `texts`."""
    start = time.thread_time()
    for text in texts:
        encoder.encode(text)
    return time.thread_time() - start


def row(name: str, ours: float, theirs: float, ratio: float | None) -> None:
    """One line of the table."""
    print(f"{name:28}{ours:12,.2f}{theirs:12,.2f}{'' if ratio is None else f'{ratio:9.2f}×':>10}")


if __name__ == "__main__":
    main()
