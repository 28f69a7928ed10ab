"""Tokenizer: what a vocabulary buys, in English and in Chinese.

One byte-pair encoding is learned from a bilingual corpus; since merges are replayed in the order of learning, its first
k merges are the tokenizer of every smaller size, and all sizes are measured from one training. A second one never saw
Chinese. `tokenizers`, the production library, reads our file and must give the same ids; it also learns a vocabulary of
its own from the same text.

A user's own tokenizer, if one is named, encodes the same text beside all these sizes.

Held-out text is filtered to one script each, ASCII or not, so that a byte tokenizer's cost is exact: 1 and 3 tokens a
character.
"""

from __future__ import annotations

import random
import tempfile
import time
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import tokenizers

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock, timed
from llmquiz.llm.base.tokenizer import Tokenizer, read_tokenizer
from llmquiz.llm.data.bpe import PRE_TOKEN, SPECIAL, ByteBPE
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError

OURS, THEIRS = "ours", "tokenizers"
KINDS = ("story", "glossary", "facts")  # prose; sums and codes are hardly language
SMALLEST = 256 + len(SPECIAL)  # ids of the byte tokenizer
HELD_OUT_DOCUMENTS = 400  # a language
RANDOM_TEXTS = 300
WIDTH = 256  # of the model whose embedding the table counts


def run(params: Params, report: Report) -> None:
    """Learn, measure every size, then compare with the library."""
    guest = read_tokenizer(tokenizer_file(params.model), {}) if params.model else None
    half = params.kilobytes * 500
    english = corpus("en", params.seed, 2 * half)
    bilingual = corpus("en", params.seed, half) + corpus("zh", params.seed, half)
    held_out = {lang: corpus(lang, params.seed + 10_000, documents_limit=HELD_OUT_DOCUMENTS) for lang in ("en", "zh")}

    ours, seconds = timed(ByteBPE.train, bilingual, params.vocab_size, clock=quiet_clock("cpu", 1))
    if ours.vocab_size < params.vocab_size:
        raise LabError(f"{params.kilobytes} kB of text hold {ours.vocab_size} tokens only; ask for more text or fewer")
    monolingual = ByteBPE.train(english, params.vocab_size)
    rows = measure_sizes(ours, monolingual, held_out, report)
    if guest is not None:
        rows.append(measure_guest(Path(params.model).name or params.model, guest, held_out, report))
    columns = ("vocabulary", "English", "Chinese", "Chinese, unseen in training", f"embedding at width {WIDTH}")
    report.table("tokens per character", columns, rows)

    retrained = ByteBPE.train(bilingual, (params.vocab_size + SMALLEST) // 2).merges
    differing = sum(a != b for a, b in zip(retrained, ours.merges, strict=False))
    report.claim("prefix", measured=differing, expected=0)
    report_exactness(ours, [*held_out["en"], *held_out["zh"]], params, report)
    compare(ours, seconds, bilingual, [*held_out["en"], *held_out["zh"]], report)


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of a folder, or that of a Hugging Face id, fetched without the weights.

    Raises:
        ModelError: if there is no such folder, and no such id with a tokenizer.json or no way to it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder / "tokenizer.json"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ModelError(f"{name}: no such folder, and huggingface_hub is not installed to look for an id") from error
    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"{name}: neither a folder nor a Hugging Face id with a tokenizer.json that can be reached; check the name"
        ) from error


def corpus(lang: str, seed: int, num_bytes: int = 0, *, documents_limit: int | None = None) -> list[str]:
    """Documents of a language without what is of the other script: `documents_limit` of them, or about `num_bytes`."""
    texts: list[str] = []
    size = 0
    for document in islice(documents(seed, KINDS, (lang,)), documents_limit):
        text = document.text
        for marker in SPECIAL:
            text = text.replace(marker, "\n")
        texts.append("".join(c for c in text if c.isascii() == (lang == "en")))
        size += len(texts[-1].encode())
        if documents_limit is None and size >= num_bytes:
            break
    return texts


def measure_sizes(
    ours: ByteBPE, monolingual: ByteBPE, held_out: dict[str, list[str]], report: Report
) -> list[tuple[object, ...]]:
    """Tokens per character at every size, halving the number of merges: the rows of the table."""
    counts = [0, *sorted({len(ours.merges) >> k for k in range(6)} - {0})]
    english, chinese, without = [], [], []
    rows: list[tuple[object, ...]] = []
    for count in report.progress(counts, unit="vocabulary", label="encoding"):
        small = ByteBPE(ours.merges[:count])
        english.append(tokens_per_character(small, held_out["en"]))
        chinese.append(tokens_per_character(small, held_out["zh"]))
        without.append(tokens_per_character(ByteBPE(monolingual.merges[:count]), held_out["zh"]))
        for series, values in (("English", english), ("Chinese", chinese), ("Chinese, unseen", without)):
            report.point("tokens_per_character", x=small.vocab_size, y=values[-1], series=series)
        rows.append((small.vocab_size, english[-1], chinese[-1], without[-1], small.vocab_size * WIDTH))
    report.metric("tokens_per_character", english[-1])
    report.metric("chinese_tokens_per_character", chinese[-1])
    report.metric("chinese_tokens_per_character_bytes", chinese[0])
    report.metric("unseen_penalty", without[-1] / chinese[-1])
    report.claim("three-bytes", measured=chinese[0], expected=3.0)
    rises = sum(after >= before for values in (english, chinese) for before, after in pairwise(values))
    report.claim("falls", measured=rises, expected=0)
    report.claim("unseen", measured=without[-1] / chinese[-1], expected=1.5, relation="at least")
    return rows


def measure_guest(name: str, guest: Tokenizer, held_out: dict[str, list[str]], report: Report) -> tuple[object, ...]:
    """The row of a tokenizer that was learned elsewhere. What it cannot spell it may drop, which looks like thrift."""
    english, chinese = (tokens_per_character(guest, held_out[lang]) for lang in ("en", "zh"))
    for language, value in (("English", english), ("Chinese", chinese)):
        report.point("tokens_per_character", x=guest.vocab_size, y=value, series=f"{name}, {language}")
    texts = [*held_out["en"], *held_out["zh"]]
    kept = sum(guest.decode(guest.encode(text)) == text for text in texts)
    report.note(f"{name} gives {kept} of {len(texts)} held-out texts back exactly")
    return f"{guest.vocab_size} ({name})", english, chinese, None, guest.vocab_size * WIDTH


def tokens_per_character(tokenizer: Tokenizer, texts: list[str]) -> float:
    """Tokens over characters of all `texts` together."""
    return sum(len(tokenizer.encode(text)) for text in texts) / sum(map(len, texts))


def report_exactness(ours: ByteBPE, texts: list[str], params: Params, report: Report) -> None:
    """Does every string come back, does `tokenizers` agree, and is the longest token what the encoder looks for?"""
    texts = texts + random_texts(params.seed)
    lost = sum(ours.decode(ours.encode(text)) != text for text in texts)
    report.claim("round-trip", measured=lost, expected=0)
    theirs = as_production(ours)
    report.claim("same-ids", measured=sum(theirs.encode(t).ids != ours.encode(t) for t in texts), expected=0)
    words = sorted({word for text in texts for word in text.split()})
    differing = sum(longest_match(ours, word) != ours.encode(word) for word in words) / len(words)
    report.metric("longest_match_share", 100 * differing)
    report.claim("by-rank", measured=100 * differing, expected=0.1, relation="at least")
    report.note(
        f"what a user types is text: '<|eos|>' gives {len(ours.encode('<|eos|>'))} tokens, none of them special"
    )


def random_texts(seed: int) -> list[str]:
    """Strings of code points from everywhere: control characters, spaces of all kinds, emoji, rare scripts."""
    rng = random.Random(seed)
    valid = [*range(0xD800), *range(0xE000, 0x110000)]
    ranges = (range(0x80), range(0x3000, 0x3100), range(0x4E00, 0xA000), range(0x1F300, 0x1F700), valid)
    return ["".join(chr(rng.choice(rng.choice(ranges))) for _ in range(rng.randrange(60))) for _ in range(RANDOM_TEXTS)]


def longest_match(tokenizer: ByteBPE, word: str) -> list[int]:
    """What one might take the encoder for: always the longest token that fits."""
    ids = {token: index for index, token in enumerate(tokenizer.tokens[: -len(SPECIAL)])}
    rest, found = word.encode(), []
    while rest:
        end = next(end for end in range(len(rest), 0, -1) if rest[:end] in ids)
        found.append(ids[rest[:end]])
        rest = rest[end:]
    return found


def as_production(ours: ByteBPE) -> Any:
    """Our tokenizer in `tokenizers`, through the file; there, too, special tokens in a text are text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        ours.save(path)
        theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.encode_special_tokens = True
    return theirs


def compare(ours: ByteBPE, learning: float, bilingual: list[str], texts: list[str], report: Report) -> None:
    """Learning and encoding beside `tokenizers`: seconds of CPU, and the tokens that each vocabulary gives."""
    relearned, their_learning = timed(learn_in_production, bilingual, ours.vocab_size, clock=time.process_time)
    pair = {OURS: ours, THEIRS: as_production(ours)}
    blank = {OURS: ByteBPE(ours.merges), THEIRS: as_production(ours)}
    clock = quiet_clock("cpu", 1)
    first = {name: timed(encode_all, encoder, texts, clock=clock)[1] for name, encoder in blank.items()}
    again = interleaved_medians(
        {name: partial(encode_all, encoder, texts) for name, encoder in pair.items()}, clock=clock
    )
    counts = {OURS: encode_all(ours, texts), THEIRS: encode_all(relearned, texts)}
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    rows = [
        (name, seconds, megabytes / first[name], megabytes / again[name], counts[name])
        for name, seconds in ((OURS, learning), (THEIRS, their_learning))
    ]
    columns = ("tokenizer", "learning (CPU s)", "new text (MB/s)", "words seen before (MB/s)", "tokens, own vocabulary")
    report.table("beside tokenizers", columns, rows)
    report.metric("encoding_over_tokenizers", again[THEIRS] / again[OURS])
    report.metric("learning_over_tokenizers", their_learning / learning)
    report.claim("same-compression", measured=counts[OURS] / counts[THEIRS], expected=1.0, tolerance=0.02)


def learn_in_production(texts: list[str], vocab_size: int) -> Any:
    """A vocabulary that `tokenizers` learns by itself, from the same pre-tokens."""
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(PRE_TOKEN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return learner


def encode_all(encoder: Any, texts: list[str]) -> int:
    """The number of tokens of all `texts`."""
    return sum(len(encoder.encode(text)) for text in texts)
