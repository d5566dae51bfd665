"""The page: its tables say what the journal says, nothing is loaded for it, and nothing in it is code."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from detnas_nni.report import write_report
from detnas_nni.report.exhibits import NAMES
from detnas_nni.report.page import page
from detnas_nni.report.searches import of_config
from detnas_nni.search.journal import journal_path
from tests.cost.latencies import by_hand
from tests.report.journals import write_journal, write_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Tables(HTMLParser):
    """The cells of each table by the id of its section; every id and every attribute of the page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.ids, self.attributes, self.text = {}, [], [], ""
        self._section, self._cell = None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.attributes += [(tag, key, value) for key, value in attrs]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag == "section":
            self._section = attributes["id"]
        if tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self._cell = True
            self.tables[self._section][-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[self._section][-1][-1] += data


@pytest.fixture
def reported(searched):
    """reported(count, …): the config, the search, and the text of its page."""

    def make(count, *, compare=(), **journal):
        config, search = searched(count, **journal)
        path = write_report(config, name="detnas.yaml", compare=compare)
        assert path == config.run_dir / "report" / "report.html"
        return config, search, path.read_text()

    return make


@pytest.fixture(scope="module")
def busy(make_config, tmp_path_factory):
    """A search of 24 candidates, not all with a result: its config and its page, only to be read."""
    config = make_config(tmp_path_factory.mktemp("busy") / "run")
    write_journal(config.search_dir, 24, failed={3}, stopped={5})
    return config, write_report(config, name="detnas.yaml").read_text()


@pytest.mark.parametrize("count", [1, 24, 1000])
def test_the_table_has_the_ten_best_of_the_journal(reported, count):
    config, search, text = reported(count, failed=set(range(5, count, 9)), stopped=set(range(6, count, 9)))
    head, *rows = Tables(text).tables["best"]
    assert head == ["rank", "AP", "MACs, M", "params, M", "ops", "gen", "origin", "id"]
    ranked = sorted(search.finished, key=lambda e: -e.fitness)[:10]
    assert rows == [
        [
            str(rank),
            f"{e.fitness:.4f}",
            f"{e.cost['macs'] / 1e6:.2f}",
            f"{e.cost['params'] / 1e6:.3f}",
            ",".join(map(str, e.ops)),
            str(e.generation),
            e.origin,
            str(e.id),
        ]
        for rank, e in enumerate(ranked, start=1)
    ]
    for name in ("progress", "cost", "architecture", "choices", "time"):
        assert (config.run_dir / f"report/{name}.png").stat().st_size > 1000
        ET.parse(config.run_dir / f"report/{name}.svg")
        assert f'<svg id="figure-{name}" role="img"' in text
    assert f"n = {count} evaluation" in text


def test_failures_are_counted_by_kind(reported):
    _, _, text = reported(12, failed={2, 3, 7}, stopped={9})
    assert Tables(text).tables["time"] == [
        ["error (numbers differ)", "candidates"],
        ["RuntimeError: no memory for 2 bytes", "3"],
    ]
    assert "3 candidates failed, 1 was given up early, 3 took more than one attempt." in text
    assert re.search(r"<dt>failed</dt><dd>3</dd>.*<dt>stopped early</dt><dd>1</dd>", text)


def test_a_search_of_which_all_failed_has_a_report(reported):
    config, _, text = reported(4, failed={0, 1, 2, 3})
    assert "No candidate has a result yet." in text
    assert not (config.run_dir / "report/cost.svg").exists()


def test_published_nets_stand_in_the_table_of_the_space_that_has_them(reported):
    _, _, text = reported(3, config={"space": {"name": "small"}})
    rows = Tables(text).tables["cost"]
    assert ["B", "DetNAS COCO FPN 300M", "288.1", "1.850"] in rows
    assert "0.364" not in text  # its published AP, on another split


def test_a_trunk_of_ones_own_has_a_report(reported, monkeypatch):
    """Its blocks differ in their candidates, some of them numbers, and it has no known stages."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "search_spaces"))
    _, search, text = reported(5, config={"space": {"name": "foreign:mobile"}})
    assert "foreign:mobile" in text and ">kernel_3<" in text
    best = search.best(1)[0]
    assert f'title="high: {best.ops[1]}"' in text
    assert [row[4] for row in Tables(text).tables["best"][1:]] == [
        ",".join(map(str, e.ops)) for e in search.best(10)
    ]


def test_a_limit_on_the_latency_alone_is_told(reported, tmp_path):
    by_hand().save(tmp_path / "latency.json")
    constraint = {"latency_table": str(tmp_path / "latency.json"), "max_latency_ms": 2.5}
    _, _, text = reported(5, config={"search": {"constraint": constraint}})
    assert "latency <= 2.5 ms, at 224 px" in Tables(text).text


def test_a_search_that_top1_guides_says_so(reported):
    sections = {"evaluation": {"task": "classification"}}
    _, search, text = reported(5, config=sections, metrics={"seconds": 1.0})
    assert search.fitness == "top-1"
    assert Tables(text).tables["best"][0][1] == "top-1"
    assert "<h2>top-1 as the search went on</h2>" in text and "top-1 of classifier (ClsNAS)" in text


def test_the_same_inputs_give_the_same_bytes(busy, tmp_path):
    config, _ = busy
    folder = config.run_dir / "report"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(before) == 13
    write_report(config, name="detnas.yaml", out=tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == before


def test_a_figure_that_a_report_does_not_have_any_more_is_removed(reported, tmp_path):
    other = tmp_path / "other"
    write_journal(other, 3, seed=1)
    config, _, text = reported(3, compare=[other])
    assert (config.run_dir / "report/comparison.svg").exists() and 'id="comparison"' in text
    (config.run_dir / "report/mine.svg").write_text("kept")
    write_report(config, name="detnas.yaml")
    assert not (config.run_dir / "report/comparison.svg").exists()
    assert (config.run_dir / "report/mine.svg").exists()


def test_ids_are_unique_and_every_reference_finds_its_own(busy):
    parsed = Tables(busy[1])
    assert len(parsed.ids) == len(set(parsed.ids))
    references = {v[1:] for _, k, v in parsed.attributes if k.endswith("href") and v.startswith("#")}
    references |= {found for *_, v in parsed.attributes for found in re.findall(r"url\(#([^)]+)\)", v or "")}
    assert references and references <= set(parsed.ids)


def test_the_page_names_no_address_and_runs_nothing(busy):
    parsed = Tables(busy[1])
    loaded = [v for _, k, v in parsed.attributes if k.split(":")[-1] in ("href", "src") and v[0] != "#"]
    own = {f"{name}.{ending}" for name in NAMES for ending in ("png", "svg")}
    assert set(loaded) <= own | {"data:,"}
    assert not any(
        key.startswith("on") or tag in ("script", "iframe", "object") for tag, key, _ in parsed.attributes
    )
    assert any("default-src 'none'" in (v or "") for *_, v in parsed.attributes)


def test_what_stands_in_a_journal_is_text_and_not_markup(searched):
    config, _ = searched(3, failed={1})
    path = journal_path(config.search_dir)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["origin"] = '</text><script>alert(1)</script>$\\frac{"'
    lines[1]["error"] = '<img src="http://example.org/x.png" onerror="alert(1)">'
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    parsed = Tables(write_report(config, name="<b>x</b>").read_text())
    assert not any(tag in ("script", "img", "b") for tag, *_ in parsed.attributes)
    assert "<img src=" in parsed.tables["time"][1][0]
    assert lines[0]["origin"] in parsed.text
    ET.parse(config.run_dir / "report/progress.svg")


def test_a_config_that_has_changed_since_is_told(make_config, tmp_path):
    config = make_config(tmp_path / "run")
    write_journal(config.search_dir, 3)
    identity = config.search_dir / "search.json"
    identity.write_text(json.dumps({"config": "another", "supernet": "ab" * 32}))
    search = of_config(config, "a.yaml")
    assert search.config_changed
    text = page(config, search, [], {})
    assert "is not the one that this search" in text and "sha256 abababababababab…" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here, in which the page would be opened")
class TestInABrowser:
    """Console and network of a headless chromium."""

    def open(self, page: Path, tmp_path: Path) -> tuple[list[str], set[str]]:
        """The errors in the console, and the addresses that the page asked for; chromium has its own."""
        log = tmp_path / "net.json"
        run = subprocess.run(
            [
                CHROMIUM,
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *("--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"),
                *(f"--log-net-log={log}", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,4000"),
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert (tmp_path / "page.png").stat().st_size > 10_000
        console = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
        started = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        assert any("url" in event for event in started)
        asked = [e["url"] for e in started if "url" in e and "file://" in str(e.get("network_isolation_key"))]
        return console, {url for url in asked if url.startswith("http")}

    def test_the_page_opens_without_an_error_and_asks_nobody(self, searched, tmp_path):
        config, search = searched(24, failed={3}, stopped={5})
        for evaluation in search.finished[:4]:
            write_result(config.run_dir, evaluation.ops, 0.3 + evaluation.id / 100)
        path = write_report(config, name="detnas.yaml", compare=[config.search_dir])
        assert self.open(path, tmp_path) == ([], set())

    def test_an_address_in_the_page_would_be_noticed(self, reported, tmp_path):
        """The test above can fail: the page's own policy refuses the address, and the console tells."""
        config, _, text = reported(1)
        path = config.run_dir / "report/report.html"
        path.write_text(text.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
        console, _ = self.open(path, tmp_path)
        assert any("Content Security Policy" in line for line in console)
        without = re.sub(r"<meta http-equiv=.Content-Security-Policy.*", "", path.read_text())
        path.write_text(without)
        _, asked = self.open(path, tmp_path)
        assert "http://127.0.0.1:9/x.png" in asked
