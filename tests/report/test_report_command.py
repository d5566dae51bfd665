"""`detnas report` on real parts: trained supernets, real searches, the command."""

import re
import shutil

import pytest

from detnas_nni.cli import main
from detnas_nni.config.reading import load_config
from detnas_nni.search.journal import Journal, journal_path
from detnas_nni.search.session import search_in_process
from tests.report.journals import write_result

RANDOM = ("search.strategy=random", "search.name=random", "search.population=3")


@pytest.fixture(scope="module")
def config_file(supernets, write_config, tmp_path_factory):
    """The config of a run with two real searches in it: the paper's evolution, and a shorter random one."""
    folder = tmp_path_factory.mktemp("searched")
    shutil.copytree(supernets, folder / "run")
    path = write_config(folder / "detnas.yaml", run_dir=str(folder / "run"))
    search_in_process(load_config(path))
    search_in_process(load_config(path, RANDOM))
    return path


def test_real_searches_are_reported_and_compared(config_file, capsys, tmp_path):
    config, random = load_config(config_file), load_config(config_file, RANDOM)
    journal = Journal(journal_path(config.search_dir))
    for evaluation in journal.evaluations[:3]:
        write_result(config.run_dir, evaluation.ops, 0.1 + evaluation.id / 10)
    out = tmp_path / "out"
    compared = ["--compare", str(random.search_dir), "--out", str(out)]
    assert main(["report", "-c", str(config_file), *compared]) == 0
    page = out / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    best = journal.best(1)[0]
    assert f"<dt>best AP</dt><dd>{best.fitness:.4f}</dd>" in text
    assert f"<code>{','.join(map(str, best.ops))}</code>" in text
    assert "<dt>evaluated</dt><dd>8 of 8</dd>" in text
    assert "is not the one that this search" not in text  # its config is unchanged
    assert "supernet, pretrain (1 net) and supernet, finetune (1 net)" in text
    assert "2 searches cut to the shortest: 6 evaluations each" in text
    assert "random search" in text and "different supernets" not in text
    assert "trained on their own as well (n = 3)" in text
    names = {path.name for path in out.iterdir()}
    assert {"training.svg", "training.png", "ranking.svg", "comparison.png"} <= names
    assert len(names) == 19


def test_a_search_that_runs_has_a_report_too_also_with_another_config(config_file, tmp_path):
    """Of a planned ten generations, two are there; and the search would not go on with three parents."""
    sets = ["--set", "search.generations=10", "--set", "search.parents=3", "--out", str(tmp_path)]
    assert main(["report", "-c", str(config_file), *sets]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "8 of 40 planned evaluations are in the journal" in text
    assert "is not the one that this search" in text


def test_before_a_search_the_command_that_makes_one_is_named(config_file, capsys, tmp_path):
    nowhere = ["--set", f"run_dir={tmp_path / 'run'}"]
    assert main(["report", "-c", str(config_file), *nowhere]) == 1
    error = capsys.readouterr().err
    assert re.match(
        r"detnas: error: .*journal\.jsonl: is not there, .*`detnas search -c .*detnas\.yaml`", error
    )
    assert not (tmp_path / "run").exists()


def test_what_is_no_search_is_refused_before_anything_is_written(config_file, capsys, tmp_path):
    gone = ["--compare", str(tmp_path / "gone"), "--out", str(tmp_path / "out")]
    assert main(["report", "-c", str(config_file), *gone]) == 2
    assert f"--compare {tmp_path / 'gone'}: does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
