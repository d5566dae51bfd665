"""The report: a line a finding, on any terminal, and as JSON."""

import dataclasses
import json

from detnas_nni.doctor.finding import Finding, as_json, as_text

FINDINGS = [
    Finding("good", "ok", "as it is"),
    Finding("broken", "problem", "of two\nlines: ü", "repair --it"),
    Finding("doubtful", "warning", "perhaps", "look at it"),
]


def test_the_report_has_a_line_a_finding_and_the_worst_remedies_last():
    assert as_text(FINDINGS, "utf-8").splitlines() == [
        "✓ good      as it is",
        "✗ broken    of two lines: ü",
        "! doubtful  perhaps",
        "",
        "! doubtful: to fix: look at it",
        "✗ broken: to fix: repair --it",
        "1 problem, 1 warning",
    ]


def test_a_plain_terminal_gets_plain_characters():
    report = as_text(FINDINGS, "ascii")
    assert report.isascii()
    assert "x broken    of two lines: \\xfc" in report.splitlines()


def test_the_json_has_every_field_and_the_worst_status():
    assert json.loads(as_json(FINDINGS)) == {
        "status": "problem",
        "findings": [dataclasses.asdict(finding) for finding in FINDINGS],
    }
    assert json.loads(as_json(FINDINGS[:1]))["status"] == "ok"
