"""From a tree to an automaton: Thompson's construction, then the subset construction (Aho et al. 2006, section 3.7).

A non-deterministic automaton (NFA) is as large as the tree and easy to build; following it means following a set of
states. Every set that can occur becomes one state of a deterministic one (DFA), which reads a byte by one look-up.
There can be 2^n sets, as in `(a|b)*a(a|b){20}`, and a schema may come from anybody: so both sizes are limited.

What is easy to forget is the last step. A state from which no end can be reached must go, or decoding walks into it and
has no token left that would be right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from llmquiz.llm.decode.constrained.syntax import Alt, Byte, Members, Node, Repeat, Seq, size
from llmquiz.llm.errors import ModelError

MAX_STATES = 5000
MAX_SIZE = 20 * MAX_STATES  # of the tree with its repeats written out
MAX_WORK = 2_000_000  # members of sets looked at: a second or two
DEAD = -1


class Automaton:
    """A DFA whose every state can reach acceptance; state 0 begins.

    Attributes:
        table: `table[state][byte]` is the next state, or DEAD.
        accepting: whether a text may end in a state.
    """

    def __init__(self, table: list[list[int]], accepting: list[bool]) -> None:
        self.table, self.accepting = table, accepting

    def __len__(self) -> int:
        return len(self.table)

    def walk(self, state: int, text: bytes) -> int:
        """The state after `text`, or DEAD."""
        for byte in text:
            if state == DEAD:
                break
            state = self.table[state][byte]
        return state

    def matches(self, text: str) -> bool:
        state = self.walk(0, text.encode())
        return state != DEAD and self.accepting[state]


def compile_tree(tree: Node, *, max_states: int = MAX_STATES) -> Automaton:
    """The automaton of what the tree allows.

    Raises:
        ModelError: if nothing matches, or the automaton is larger than `max_states`.
    """
    if size(tree) > MAX_SIZE:
        raise ModelError(
            f"constraint: written out it has {size(tree)} parts, at most {MAX_SIZE} are built; "
            "lower its counts or its depth"
        )
    nfa = _NFA()
    end = nfa.add(tree, nfa.state())
    return _pruned(*_determinized(nfa, end, max_states))


class _NFA:
    """States with edges (low, high, next state) that read a byte, and free moves that read nothing."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []
        self.free: list[list[int]] = []

    def state(self) -> int:
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def add(self, node: Node, start: int) -> int:
        """Let `node` be read from `start` on; the state after it."""
        match node:
            case Byte(low, high):
                end = self.state()
                self.edges[start].append((low, high, end))
            case Seq(parts):
                end = start
                for part in parts:
                    end = self.add(part, end)
            case Alt(options):
                end = self.state()
                for option in options:
                    self.free[self.add(option, start)].append(end)
            case Repeat(part, low, high):
                end = self._repeat(part, low, high, start)
            case Members(items, separator):
                end = self._members(items, separator, start)
        return end

    def _repeat(self, part: Node, low: int, high: int | None, start: int) -> int:
        for _ in range(low):
            start = self.add(part, start)
        end = self.state()
        self.free[start].append(end)
        if high is None:
            self.free[self.add(part, end)].append(end)
        else:
            for _ in range(high - low):
                start = self.add(part, start)
                self.free[start].append(end)
        return end

    def _members(self, items: tuple[tuple[Node, bool], ...], separator: Node, start: int) -> int:
        """Two tracks, before and after the first item that is there; both lead into the one copy of each item."""
        before, after = start, self.state()
        for item, required in items:
            begin, next_before, next_after = self.state(), self.state(), self.state()
            self.free[before].append(begin)
            self.free[self.add(separator, after)].append(begin)
            self.free[self.add(item, begin)].append(next_after)
            if not required:
                self.free[before].append(next_before)
                self.free[after].append(next_after)
            before, after = next_before, next_after
        end = self.state()
        self.free[before].append(end)
        self.free[after].append(end)
        return end

    def closure(self, states: frozenset[int]) -> frozenset[int]:
        """With all states that free moves reach."""
        found, waiting = set(states), list(states)
        while waiting:
            fresh = set(self.free[waiting.pop()]) - found
            found |= fresh
            waiting += fresh
        return frozenset(found)


def _determinized(nfa: _NFA, end: int, max_states: int) -> tuple[list[list[int]], list[bool]]:
    """The table and the accepting states of the sets that can occur."""
    cuts = sorted({0, *(cut for edges in nfa.edges for low, high, _ in edges for cut in (low, high + 1))} - {256})
    widths = [after - cut for cut, after in zip(cuts, [*cuts[1:], 256], strict=True)]
    closures: dict[frozenset[int], frozenset[int]] = {}
    sets = [nfa.closure(frozenset([0]))]
    known, table, work = {sets[0]: 0}, [], 0
    for states in sets:  # which grows
        work += len(states)
        if len(sets) > max_states or work > MAX_WORK:
            raise ModelError(
                f"constraint: its automaton has more than {max_states} states or takes too long to build; "
                "simplify it, or lower its counts or its depth"
            )
        following: defaultdict[int, set[int]] = defaultdict(set)  # which of the intervals between cuts -> NFA states
        for low, high, to in (edge for state in states for edge in nfa.edges[state]):
            for interval in range(bisect_right(cuts, low) - 1, bisect_right(cuts, high)):
                following[interval].add(to)
        row: list[int] = []
        for interval, width in enumerate(widths):
            reached = frozenset(following.get(interval, ()))
            if reached and reached not in closures:
                closures[reached] = nfa.closure(reached)
                if closures[reached] not in known:
                    known[closures[reached]] = len(sets)
                    sets.append(closures[reached])
            row += [known[closures[reached]] if reached else DEAD] * width
        table.append(row)
    return table, [end in states for states in sets]


def _pruned(table: list[list[int]], accepting: list[bool]) -> Automaton:
    """Without the states that cannot reach acceptance."""
    before: defaultdict[int, set[int]] = defaultdict(set)
    for state, row in enumerate(table):
        for to in set(row):
            before[to].add(state)
    waiting = [state for state, accepts in enumerate(accepting) if accepts]
    alive = set(waiting)
    while waiting:
        fresh = before[waiting.pop()] - alive
        alive |= fresh
        waiting += fresh
    if 0 not in alive:
        raise ModelError("constraint: nothing can match it; look for an empty choice or a recursion without an end")
    new = {old: place for place, old in enumerate(sorted(alive))}
    return Automaton([[new.get(to, DEAD) for to in table[state]] for state in new], [accepting[state] for state in new])
