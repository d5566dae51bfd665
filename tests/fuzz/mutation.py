"""Damage and mischief, drawn by a generator: bytes that change, and values that nobody expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes, bytes], bytes]
"""(generator, a seed, another seed) to an input."""

_MAX_BYTES = 100_000

_TOKENS = (
    *(b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\n", b"\r\n", b"\t", b"-", b":", b",", b"&", b"*", b"!!", b'"', b"'", b"<", b">", b"/>", b"<!--"),
    *(b"[", b"]", b"{", b"}", b"[" * 200, b"../", b"null", b"NaN", b"1e999", b"9" * 20, b"9" * 5000),
    *(b"\\u0000", b"\\ud800", b"&#0;", b"%s", b"~"),
)


class Pairs(list):
    """The members of an object or an element: [key, value] in order, of which a key may stand twice."""


def mutate_bytes(random: Random, data: bytes, other: bytes) -> bytes:
    """`data` after one to eight changes of its bytes."""
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        data = random.choice(_CHANGES)(random, data, other)[:_MAX_BYTES]
    return data


def _flip(random: Random, data: bytes, _: bytes) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _insert(random: Random, data: bytes, _: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + _new(random) + data[at:]


def _overwrite(random: Random, data: bytes, _: bytes) -> bytes:
    at, new = random.randint(0, len(data)), _new(random)
    return data[:at] + new + data[at + len(new) :]


def _delete(random: Random, data: bytes, _: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _duplicate(random: Random, data: bytes, _: bytes) -> bytes:
    start, end = _span(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 2, 30)) + data[end:]


def _truncate(random: Random, data: bytes, _: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


_CHANGES = (_flip, _flip, _insert, _overwrite, _delete, _duplicate, _truncate, _splice)


def _new(random: Random) -> bytes:
    return random.randbytes(random.randint(1, 8)) if random.random() < 0.3 else random.choice(_TOKENS)


def _span(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 1024)))


def mutate_tree(random: Random, tree: Any, nasty: Sequence[Any], keys: Sequence[Any]) -> Any:
    """A tree of `Pairs`, lists and values, after one to four changes of a value or a key, in place.

    Args:
        nasty: what may come into a value's place.
        keys: what may come into a key's place.
    """
    holder = [tree]
    for _ in range(random.choice((1, 1, 2, 4))):
        places = list(_places(holder))
        container, at = random.choice(places)
        change = random.choice(("value", "value", "value", "swap", "key", "delete", "duplicate"))
        if container is holder and change in ("delete", "duplicate"):
            change = "value"
        if change == "value":
            _put(container, at, _copied(random.choice(nasty)))
        elif change == "swap":
            _put(container, at, _copied(_at(*random.choice(places))))
        elif change == "delete":
            del container[at]
        elif change == "duplicate":
            container[at:at] = [_copied(container[at]) for _ in range(random.choice((1, 1, 20)))]
        elif isinstance(container, Pairs):
            container[at][0] = random.choice((*keys, *(key for key, _ in container)))
    return holder[0]


def _places(container: list) -> Iterator[tuple[list, int]]:
    for at in range(len(container)):
        yield container, at
        value = _at(container, at)
        if isinstance(value, list):
            yield from _places(value)


def _at(container: list, at: int) -> Any:
    return container[at][1] if isinstance(container, Pairs) else container[at]


def _put(container: list, at: int, value: Any) -> None:
    if isinstance(container, Pairs):
        container[at][1] = value
    else:
        container[at] = value


def _copied(value: Any) -> Any:
    return type(value)(map(_copied, value)) if isinstance(value, list) else value
