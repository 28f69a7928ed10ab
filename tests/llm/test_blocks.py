"""The allocator of the paged cache: no block is lost or owned twice, and no sequence ever reads another's tokens."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.llm.cache.blocks import BlockPool, BlockTable
from llmquiz.llm.errors import ModelError

SIZE = 4


class Memory:
    """What a cache does with a pool, on a list: every sequence is held beside what it should read."""

    def __init__(self, num_blocks: int) -> None:
        self.pool = BlockPool(num_blocks, SIZE)
        self.slots = [-1] * (num_blocks * SIZE)
        self.sequences: list[tuple[BlockTable, list[int]]] = []
        self.written = 0

    def slot(self, table: BlockTable, token: int) -> int:
        return table.blocks[token // SIZE] * SIZE + token % SIZE

    def start(self) -> None:
        self.sequences.append((BlockTable(), []))

    def extend(self, chosen: list[int], tokens: int) -> None:
        several = [self.sequences[i] for i in chosen]
        before = [(list(table.blocks), table.length) for table, _ in several]
        free = self.pool.num_blocks - self.pool.num_taken
        try:
            copies = self.pool.extend([table for table, _ in several], tokens)
        except ModelError:
            assert [(table.blocks, table.length) for table, _ in several] == before
            assert self.pool.num_blocks - self.pool.num_taken == free
            return
        for source, target in copies:
            self.slots[target * SIZE : (target + 1) * SIZE] = self.slots[source * SIZE : (source + 1) * SIZE]
        for table, text in several:
            for _ in range(tokens):
                self.slots[self.slot(table, len(text))] = self.written
                text.append(self.written)
                self.written += 1

    def fork(self, i: int) -> None:
        table, text = self.sequences[i]
        self.sequences.append((self.pool.fork(table), list(text)))

    def truncate(self, i: int, length: int) -> None:
        table, text = self.sequences[i]
        self.pool.truncate(table, length)
        del text[length:]

    def end(self, i: int) -> None:
        self.pool.truncate(self.sequences.pop(i)[0], 0)

    def check(self) -> None:
        owned = {block for table, _ in self.sequences for block in table.blocks}
        assert self.pool.num_taken == len(owned)
        for table, text in self.sequences:
            assert table.length == len(text)
            assert len(table.blocks) == -(-len(text) // SIZE)
            assert [self.slots[self.slot(table, t)] for t in range(len(text))] == text

    def step(self, choose: random.Random) -> None:
        if not self.sequences or choose.random() < 0.1:
            return self.start()
        i, kind = choose.randrange(len(self.sequences)), choose.random()
        if kind < 0.5:
            chosen = choose.sample(range(len(self.sequences)), choose.randint(1, len(self.sequences)))
            return self.extend(chosen, choose.randint(1, 2 * SIZE))
        if kind < 0.65:
            return self.fork(i)
        if kind < 0.8:
            return self.truncate(i, choose.randint(0, len(self.sequences[i][1])))
        return self.end(i)


def test_nothing_leaks_in_ten_thousand_operations() -> None:
    memory, choose = Memory(24), random.Random(0)
    for operation in range(10_000):
        memory.step(choose)
        if operation % 50 == 0:
            memory.check()
    while memory.sequences:
        memory.end(0)

    assert memory.pool.num_taken == 0
    assert len(memory.pool.extend([table := BlockTable()], 24 * SIZE)) == 0
    assert sorted(table.blocks) == list(range(24))


@settings(max_examples=40, deadline=None)
@given(blocks=st.integers(1, 12), seed=st.integers(0, 2**32), operations=st.integers(1, 40))
def test_every_sequence_reads_its_own_tokens(blocks: int, seed: int, operations: int) -> None:
    memory, choose = Memory(blocks), random.Random(seed)
    for _ in range(operations):
        memory.step(choose)
        memory.check()


def test_only_the_unfinished_block_is_copied_and_the_last_owner_writes_in_place() -> None:
    pool = BlockPool(8, SIZE)
    first = BlockTable()
    pool.extend([first], SIZE + 1)
    others = [pool.fork(first), pool.fork(first)]

    assert pool.num_taken == 2
    copies = pool.extend([first, *others], 1)
    assert [source for source, _ in copies] == [1, 1]
    assert pool.num_taken == 4
    assert {table.blocks[0] for table in (first, *others)} == {0}
    assert len({table.blocks[1] for table in (first, *others)}) == 3


def test_full_blocks_stay_shared() -> None:
    pool = BlockPool(4, SIZE)
    first = BlockTable()
    pool.extend([first], 2 * SIZE)
    second = pool.fork(first)

    assert pool.extend([first, second], 1) == []
    assert first.blocks[:2] == second.blocks[:2]
    assert pool.num_taken == 4


def test_the_last_free_block_is_enough_for_a_pair_that_parts() -> None:
    pool = BlockPool(3, SIZE)
    first = BlockTable()
    pool.extend([first], SIZE + 1)

    assert len(pool.extend([first, pool.fork(first)], 1)) == 1
    assert pool.num_taken == 3


def test_a_full_pool_changes_nothing() -> None:
    pool = BlockPool(3, SIZE)
    tables = [BlockTable(), BlockTable()]
    pool.extend(tables, SIZE)

    with pytest.raises(ModelError, match="2 blocks are needed and 1 of 3 are free"):
        pool.extend(tables, 1)
    assert [table.length for table in tables] == [SIZE, SIZE]
    pool.extend(tables[:1], SIZE)
    with pytest.raises(ModelError, match="hold nothing"):
        BlockPool(0, SIZE)
