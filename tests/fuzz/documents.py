"""JSON, YAML and XML to mutate: read as a tree, written again with what no honest file has in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from xml.etree import ElementTree

import yaml

from tests.fuzz.mutation import Pairs, mutate_bytes, mutate_tree


class Raw(str):
    """Text that is written into a document as it stands."""


@dataclass(frozen=True)
class Form:
    """A kind of documents.

    Attributes:
        read: bytes to a tree of `Pairs`, lists and values; ValueError for what is none.
        write: the way back.
        nasty: what to put into a value's place.
    """

    read: Callable[[bytes], Any]
    write: Callable[[Any], str]
    nasty: Sequence[Any]

    def mutate(self, random: Random, data: bytes, other: bytes) -> bytes:
        """`data` with other values, or, in two of five cases, other bytes."""
        if random.random() < 0.4:
            return mutate_bytes(random, data, other)
        tree = mutate_tree(random, self.read(data), self.nasty, _KEYS)
        return self.write(tree).encode("utf-8", "surrogatepass")

    def mutate_lines(self, random: Random, data: bytes, other: bytes) -> bytes:
        """As `mutate`, of a file with one document a line."""
        if random.random() < 0.4:
            return mutate_bytes(random, data, other)
        lines = [self.read(line) for line in data.splitlines()]
        lines = mutate_tree(random, lines, self.nasty, _KEYS)
        lines = lines if isinstance(lines, list) else [lines]
        return "".join(self.write(line) + "\n" for line in lines).encode("utf-8", "surrogatepass")


_KEYS = ("", "id", "0", "x\0", "\ud800", "../..", "extends", "space", "<<", "__class__", "k" * 3000)

_STRINGS = (
    *("", " ", ".", "..", "\n", "\0", "a\0b", "\ud800", "ß😀\u202e\u0085", "\x1b[2J", "%s{0}", "1", "true"),
    *("a" * 300, "x" * 70_000, "../../etc/passwd", "/etc/passwd", "..\\x", "C:\\x", "a/../../b", "/dev/zero"),
    *("~nobody-of-this-name/x", "${HOME}", "${NOBODY_SETS_THIS}", "file:///etc/passwd"),
    *("this:s", "os:getcwd", "builtins:print", ":", "a.b:", "..x:y", "tiny", "small", "large", "resnet50"),
)
_NUMBERS = (-1, 0, 1, 2, 0.5, 2**24, 2**31, 2**53, 2**63, 2**64, 10**30, 10**400)
_NUMERALS = ("-0.0", "1e-320", "1e30", "1e308", "-1e308", "1e400", "NaN", "-Infinity", "9" * 5000)
_LISTS = ([], [[]], [None], ["x"], [0] * 4, [1e308, -1e308, 1e308, 1e308], [0] * 40, list(range(1000)))
_OBJECTS = (Pairs(), Pairs([["x", 1]]), Pairs([["id", []]]), Pairs([["a", Pairs([["b", Pairs()]])]]))

_VALUES = (None, True, False, *_NUMBERS, *map(Raw, _NUMERALS), *_STRINGS, *_LISTS, *_OBJECTS)


def _nested(*depths: int) -> list[Raw]:
    lists = [Raw("[" * depth + "]" * depth) for depth in depths]
    return lists + [Raw('{"a":' * depth + "1" + "}" * depth) for depth in depths]


def _read_json(data: bytes) -> Any:
    return json.loads(data, object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))


def _write_json(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {_write_json(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write_json, value)) + "]"
    return str(value) if isinstance(value, Raw) else json.dumps(value)


# Around where Python's own recursion ends, and far beyond.
JSON = Form(_read_json, _write_json, (*_VALUES, *_nested(3, 320, 900, 950, 970, 980, 985, 990, 995, 100_000)))


def _read_yaml(data: bytes) -> Any:
    return _read_json(json.dumps(yaml.safe_load(data)).encode())


# 9^8 strings in eight lists, and 2^30 keys in thirty mappings.
_LAUGHS = ", ".join(f"&x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9))
_MERGES = ", ".join(f"&m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 31))

_YAML = f"""
*a
&a [*a, *a]
&a {{a: *a}}
[&x0 [a], {_LAUGHS}]
[&m0 {{a: b}}, {_MERGES}]
!!python/object/apply:os.getcwd []
!!python/name:os.system
!foo x
!!str 1
!!bool maybe
!!int ''
!!int x
!!float ''
!!timestamp x
!!binary x
!!binary '%'
!!set {{a}}
!!omap [a: 1]
!!pairs [a]
!!map []
!!seq {{}}
!!merge x
2020-01-01
0001-01-01T00:00:00+23:59
9999-99-99
1_000
0o17
0b1
0x{"f" * 5000}
1{":1" * 3000}
1{":1" * 400}.5
.nan
-.inf
1e-4
yes
~
{{<<: {{a: 1}}}}
{{<<: [1]}}
{{? [a] : 1}}
{{a: 1, a: 2}}
{{1: a, '1': b, null: c}}
'
@x
%TAG x
--- x
...
# x
? x
- x
""".strip().splitlines()

YAML = Form(
    _read_yaml,
    _write_json,  # a JSON document is one of YAML
    (
        *(*_VALUES, *map(Raw, _YAML), *_nested(3, 100, 250, 2000)),
        *("base.yaml", "./base.yaml", "input.yaml", ["base.yaml"] * 40),
    ),
)


def _read_xml(data: bytes) -> Any:
    root = ElementTree.fromstring(data)
    return Pairs([[root.tag, _members(root)]])


def _members(element: ElementTree.Element) -> Any:
    return Pairs([child.tag, _members(child)] for child in element) if len(element) else element.text or ""


def _write_xml(value: Any) -> str:
    if isinstance(value, Pairs):
        return "".join(f"<{key}>{_write_xml(item)}</{key}>" for key, item in value)
    if isinstance(value, list):
        return "".join(map(_write_xml, value))
    return "" if value is None else str(value)


_ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))

_XML = f"""
&x;
&#0;
&#xd800;
&lt;
<![CDATA[a]]>
<!-- a -->
<?a b?>
<a b='c'/>
<!DOCTYPE a [<!ENTITY e0 'a'>{_ENTITIES}]>&e11;
<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>
<?xml version='1.0' encoding='none'?>
<?xml version='1.0' encoding='utf-7'?><annotation/>
-1
1_0
٣
0x10
nan
inf
-inf
1e400
7.5
""".strip().splitlines()

XML = Form(
    _read_xml,
    _write_xml,
    (
        *(*_STRINGS, *_NUMERALS, *_LISTS, *_OBJECTS, *_XML, *(str(number) for number in _NUMBERS)),
        *("<a>" * depth + "</a>" * depth for depth in (3, 1000, 10_000)),
        *("<object>" * depth + "</object>" * depth for depth in (3, 1000)),
    ),
)
