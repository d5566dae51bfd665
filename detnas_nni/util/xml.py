"""XML from untrusted sources, without the features that only an attacker needs."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


class BadXmlError(Exception):
    """Not XML that an annotation may use; the text says why, without the file's name."""


def parse_xml(content: bytes) -> Element:
    """The root, without expanding entities: a DOCTYPE is refused, no annotation needs one.

    Blank lines before the XML declaration, which expat rejects, are skipped.

    Raises:
        BadXmlError: it has a DOCTYPE, or is not XML.
    """

    def refuse(*_: object) -> None:
        raise BadXmlError("has a DOCTYPE, expected plain XML without one")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content.lstrip() if content[:1].isspace() else content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: an unknown encoding
        raise BadXmlError(f"is not XML ({error})") from None
    return builder.close()
