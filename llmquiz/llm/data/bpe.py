"""Byte-pair encoding on bytes, from scratch (Sennrich et al. 2016, section 3.2; bytes as in Radford et al. 2019, 2.2).

What people get wrong: the merges are learned by counting, but text is encoded by *rank*. The encoder never counts and
never looks for the longest token; it replays the merges in the order in which they were learned. So a token can be in
the vocabulary and never come out, and the first k merges of a large vocabulary are the vocabulary of k merges.

Ids: 0..255 are the bytes themselves, then one id a merge in the order of learning, then the special tokens. Every byte
has an id, so nothing is unknown; a Chinese character is three bytes in UTF-8 and costs three tokens until merges join
them. Text is first cut into pre-tokens (a word with the space before it, a run of Chinese, one digit, ...); no merge
reaches across a cut, so the ids of a pre-token can be cached.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from llmquiz.llm.data import tokenizer_json
from llmquiz.llm.errors import ModelError

Pair: TypeAlias = tuple[int, int]
SPECIAL = ("<|bos|>", "<|eos|>", "<|pad|>", "<|user|>", "<|assistant|>")

# Ranges of code points rather than \w and \s: those differ between regex engines and Unicode versions, and then the
# same tokenizer.json gives other ids elsewhere.
_SPACE = " \t-\r"
_WORD = "A-Za-z\u00c0-\u1fff"  # alphabets, with their marks
_CJK = "\u3040-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Chinese, hangul: written without spaces
PRE_TOKEN = "|".join(
    (
        f" ?[{_WORD}]+",
        f"[{_CJK}]+",
        "[0-9]",  # one digit a token: a sum then lines up digit by digit
        f" ?[^{_SPACE}{_WORD}{_CJK}0-9]+",
        f"[{_SPACE}]+(?= [^{_SPACE}{_CJK}0-9])",  # the last space goes with the word
        f"[{_SPACE}]+",
    )
)
_pre_tokens = re.compile(PRE_TOKEN).findall
_CACHED_PRE_TOKENS = 1 << 16


class ByteBPE:
    """A byte-level tokenizer: 256 bytes, `merges` in the order of learning, then `special` tokens.

    Raises:
        ModelError: if a merge joins an id that does not exist yet, or spells a token a second time.
    """

    def __init__(self, merges: Sequence[Pair], special: Sequence[str] = SPECIAL) -> None:
        self.merges = list(merges)
        self.special = tuple(special)
        self.tokens = [bytes([byte]) for byte in range(256)]  # the bytes of each id
        for left, right in self.merges:
            if max(left, right) >= len(self.tokens):
                raise ModelError(f"merge ({left}, {right}) joins an id that no earlier merge made")
            self.tokens.append(self.tokens[left] + self.tokens[right])
        if len(set(self.tokens)) < len(self.tokens):
            raise ModelError("two merges spell the same token; each string of bytes has one id")
        self._merged = {pair: 256 + rank for rank, pair in enumerate(self.merges)}
        self._special_ids = {name: len(self.tokens) + k for k, name in enumerate(self.special)}
        self.tokens += [name.encode() for name in self.special]
        longest_first = sorted(self.special, key=len, reverse=True)
        self._special_cuts = re.compile(f"({'|'.join(map(re.escape, longest_first))})" if self.special else "(?!)")
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, special: Sequence[str] = SPECIAL) -> ByteBPE:
        """Learn merges until the vocabulary, special tokens included, has `vocab_size` ids, or until no pair that could
        be merged occurs twice.

        Raises:
            ModelError: if `vocab_size` has no room for the bytes and the special tokens.
        """
        num_merges = vocab_size - 256 - len(special)
        if num_merges < 0:
            raise ModelError(f"no vocabulary of {vocab_size}: 256 bytes and {len(special)} special tokens need more")
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_pre_tokens(text))
        return cls(_learn([list(word.encode()) for word in counts], list(counts.values()), num_merges), special)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.tokens)

    def token_id(self, special: str) -> int:
        """The id of a special token.

        Raises:
            ModelError: if there is no such special token.
        """
        if special not in self._special_ids:
            raise ModelError(f"no special token '{special}'; there are {', '.join(self.special) or 'none'}")
        return self._special_ids[special]

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of `text`.

        `<|eos|>` in the text is spelled in ordinary tokens, unless `special`: what a user types must not end a turn.

        Raises:
            UnicodeEncodeError: if the text holds half of a surrogate pair, which is no character.
        """
        if not special:
            return self._encode_ordinary(text)
        ids: list[int] = []
        for part in self._special_cuts.split(text):
            ids += [self._special_ids[part]] if part in self._special_ids else self._encode_ordinary(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no whole character give U+FFFD, as when a generation stops inside one."""
        return b"".join([self.tokens[token] for token in ids]).decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, which Hugging Face's `tokenizers` reads: same ids there."""
        tokenizer_json.write(Path(path), self.merges, self.special, PRE_TOKEN)

    @classmethod
    def load(cls, path: str | Path) -> ByteBPE:
        """Read a tokenizer.json that `save` wrote.

        Raises:
            ModelError: if the file is missing, broken, or of a tokenizer with other rules than these.
        """
        return cls(*tokenizer_json.read(Path(path), PRE_TOKEN))

    def _encode_ordinary(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in _pre_tokens(text):
            known = self._cache.get(word)
            if known is None:
                known = self._merge(list(word.encode()))
                if len(self._cache) >= _CACHED_PRE_TOKENS:
                    self._cache.clear()
                self._cache[word] = known
            ids += known
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        """Replay the merges on one pre-token: of the pairs in it, always the one that was learned first."""
        never = self.vocab_size
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self._merged.get(pair, never))
            if pair not in self._merged:
                break
            ids = _replace(ids, pair, self._merged[pair])[0]
        return ids


def _learn(words: list[list[int]], counts: list[int], num_merges: int) -> list[Pair]:
    """Merge the most frequent pair, `num_merges` times; of equals, the pair of smaller ids.

    Counting anew after each merge would read the whole text each time. A merge changes only the counts of its
    neighbours, in the words that hold it; the heap keeps outdated entries, which are skipped when they come up.
    """
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # words that hold a pair, or once did
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += counts[index]
            holders[pair].add(index)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    tokens = [bytes([byte]) for byte in range(256)]
    spelled = set(tokens)
    merges: list[Pair] = []
    while heap and len(merges) < num_merges:
        negative, pair = heapq.heappop(heap)
        token = tokens[pair[0]] + tokens[pair[1]]
        if pair_counts[pair] != -negative or token in spelled:
            continue
        if -negative < 2:
            break
        changed: set[Pair] = set()
        for index in holders.pop(pair):
            words[index], changes = _replace(words[index], pair, len(tokens))
            for neighbour, change in changes:
                pair_counts[neighbour] += change * counts[index]
                if change > 0:
                    holders[neighbour].add(index)
                changed.add(neighbour)
        for neighbour in changed:
            heapq.heappush(heap, (-pair_counts[neighbour], neighbour))
        merges.append(pair)
        tokens.append(token)
        spelled.add(token)
    return merges


def _replace(ids: list[int], pair: Pair, new: int) -> tuple[list[int], list[tuple[Pair, int]]]:
    """`ids` with `pair` joined to `new`, from left to right, and by how much each pair's count changed."""
    left, right = pair
    joined: list[int] = []
    changes: list[tuple[Pair, int]] = []
    position, last = 0, len(ids) - 1
    while position <= last:
        if ids[position] != left or position == last or ids[position + 1] != right:
            joined.append(ids[position])
            position += 1
            continue
        changes.append((pair, -1))
        if joined:
            changes += [((joined[-1], left), -1), ((joined[-1], new), +1)]
        if position + 2 <= last:
            changes += [((right, ids[position + 2]), -1), ((new, ids[position + 2]), +1)]
        joined.append(new)
        position += 2
    return joined, changes
