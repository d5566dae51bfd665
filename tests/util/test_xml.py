"""XML of annotations: parsed as it is written, refused where it could do more than say something."""

import pytest

from detnas_nni.util.xml import BadXmlError, parse_xml


@pytest.mark.parametrize(
    "content",
    [
        b"<a><b>caf\xc3\xa9</b></a>",
        b"\xef\xbb\xbf<a><b>caf\xc3\xa9</b></a>",
        b'\r\n <?xml version="1.0"?><a><b>caf\xc3\xa9</b></a>\n',
        '<?xml version="1.0" encoding="latin-1"?><a><b>café</b></a>'.encode("latin-1"),
        '<?xml version="1.0" encoding="utf-16"?><a><b>café</b></a>'.encode("utf-16"),
    ],
)
def test_text_is_read_in_the_encoding_that_the_file_says(content: bytes) -> None:
    assert parse_xml(content).findtext("b") == "café"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "has a DOCTYPE"),
        (b"<a><b></a>", "is not XML \\(mismatched tag"),
        (b"", "is not XML \\(no element found"),
        (b"  ", "is not XML \\(no element found"),
        (b'<?xml version="1.0" encoding="utf-99"?><a/>', "is not XML"),
        (b"<a>caf\xe9</a>", "is not XML"),
    ],
)
def test_what_is_refused_is_said(content: bytes, reason: str) -> None:
    with pytest.raises(BadXmlError, match=reason):
        parse_xml(content)
