"""XML from strangers, without what only an attacker needs."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

# Multi-byte encodings, which expat does not know, and the widest codec of their family in Python.
_EAST_ASIAN = {
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "cp936"), "gb18030"),
    **dict.fromkeys(("big5", "cp950"), "big5hkscs"),
    **dict.fromkeys(("shift_jis", "sjis", "cp932", "windows-31j"), "cp932"),
    "euc-jp": "euc_jp",
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "cp949"), "cp949"),
}
_DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")


class BadXmlError(Exception):
    """Not XML that an annotation may use; the text says why, without the file's name."""


def parse_xml(content: bytes) -> Element:
    """The root, without expanding entities: a DOCTYPE is refused, no annotation needs one.

    Blank lines before the XML declaration, which expat rejects, are skipped; multi-byte East Asian encodings,
    which expat does not know, are decoded first.

    Raises:
        BadXmlError: it has a DOCTYPE, or is not XML.
    """

    def refuse(*_: object) -> None:
        raise BadXmlError("has a DOCTYPE, expected plain XML without one")

    content = content.lstrip() if content[:1].isspace() else content
    encoding = None
    builder = TreeBuilder()
    try:
        declared = _DECLARED.match(content)
        if declared is not None and declared[1].decode().lower() in _EAST_ASIAN:
            content = content.decode(_EAST_ASIAN[declared[1].decode().lower()]).encode()
            encoding = "utf-8"  # before what the declaration says
        parser = expat.ParserCreate(encoding)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = refuse
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise BadXmlError(f"is not XML ({error})") from None
    return builder.close()
