"""Which block holds which tokens: the allocator of a paged KV cache (Kwon et al. 2023, sections 4.1 to 4.4).

Memory is cut into blocks of a few tokens. A sequence has a table of its blocks and takes another one only when its last
is full, so it wastes less than one block however long it may become.

Sequences with a common beginning share its blocks; a count of owners keeps a block until the last of them is gone. What
people forget is the last block. A full one is never written again and can be shared freely, but a partly filled one is
where the next token of every owner goes. So the first to write takes a copy (copy-on-write), and whoever is left alone
writes in place.

Nothing here is a tensor: token t of a sequence stands in slot blocks[t // block_size] * block_size + t % block_size,
and whoever holds the numbers moves them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmquiz.llm.errors import ModelError


@dataclass(slots=True)
class BlockTable:
    """One sequence: its blocks in order, and the tokens that stand in them. Only a `BlockPool` changes it."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


class BlockPool:
    """Blocks 0 to num_blocks - 1, free or owned by one or more tables.

    Args:
        num_blocks: all there will ever be.
        block_size: tokens a block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ModelError(f"block pool: {num_blocks} blocks of {block_size} tokens hold nothing; use 1 or more")
        self.block_size = block_size
        self._free = list(reversed(range(num_blocks)))  # taken from the end
        self._owners = [0] * num_blocks

    @property
    def num_blocks(self) -> int:
        """Blocks in all."""
        return len(self._owners)

    @property
    def num_taken(self) -> int:
        """Blocks that have an owner; one with several counts once."""
        return len(self._owners) - len(self._free)

    def extend(self, tables: Sequence[BlockTable], tokens: int) -> list[tuple[int, int]]:
        """Make room for `tokens` (1 or more) at the end of each table: for all of them, or for none.

        Returns:
            Pairs of blocks (from, to): copy the numbers of one to the other before a new token is written.

        Raises:
            ModelError: if there are too few free blocks; nothing has changed then.
        """
        needed = self._blocks_needed(tables, tokens)
        if needed > len(self._free):
            raise ModelError(
                f"block pool: {needed} blocks are needed and {len(self._free)} of {self.num_blocks} are free; "
                "end a sequence, or make the pool larger"
            )
        copies = []
        for table in tables:
            if self._shares_unfinished(table):
                shared, own = table.blocks[-1], self._take()
                self._owners[shared] -= 1
                table.blocks[-1] = own
                copies.append((shared, own))
            table.length += tokens
            while len(table.blocks) * self.block_size < table.length:
                table.blocks.append(self._take())
        return copies

    def fork(self, table: BlockTable) -> BlockTable:
        """A second sequence with the same tokens: all blocks are shared, none is copied yet."""
        for block in table.blocks:
            self._owners[block] += 1
        return BlockTable(list(table.blocks), table.length)

    def truncate(self, table: BlockTable, length: int) -> None:
        """Cut the sequence to its first `length` tokens; 0 ends it. Blocks that nobody owns any more are free again."""
        while len(table.blocks) > -(-length // self.block_size):
            block = table.blocks.pop()
            self._owners[block] -= 1
            if not self._owners[block]:
                self._free.append(block)
        table.length = length

    def _blocks_needed(self, tables: Sequence[BlockTable], tokens: int) -> int:
        """New blocks at the ends, and a copy for each writer of an unfinished block but the last owner."""
        ends = sum(-(-(table.length + tokens) // self.block_size) - len(table.blocks) for table in tables)
        writers = Counter(table.blocks[-1] for table in tables if table.length % self.block_size)
        return ends + sum(min(count, self._owners[block] - 1) for block, count in writers.items())

    def _shares_unfinished(self, table: BlockTable) -> bool:
        return table.length % self.block_size != 0 and self._owners[table.blocks[-1]] > 1

    def _take(self) -> int:
        block = self._free.pop()
        self._owners[block] = 1
        return block
