"""`best_architecture.json`: the contract's keys, any rank, also of a search that still runs."""

import json
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from nni.nas.space import model_context

from detnas_nni.architecture import Architecture
from detnas_nni.cost.table import cost_table
from detnas_nni.errors import CheckpointError, EvaluationError
from detnas_nni.search.best import export_best, versions
from detnas_nni.search.journal import Evaluation, Journal, JournalError, journal_path
from detnas_nni.search.session import SearchSession
from detnas_nni.training.weights import file_hash
from search_spaces import layout
from tests.varied import SEED

BLOCKS = len(layout("tiny"))
FITNESSES = {(0,) * BLOCKS: 0.2, (1,) * BLOCKS: None, (2,) * BLOCKS: 0.4, (3,) * BLOCKS: 0.3}


@pytest.fixture
def session(trained_run, make_config):
    """A search that still runs: four of its eight candidates are done, one of them failed."""
    session = SearchSession(make_config(trained_run))
    for number, (ops, fitness) in enumerate(FITNESSES.items()):
        cost = cost_table("tiny").cost(ops)
        session.journal.append(
            Evaluation(
                id=number,
                ops=ops,
                choices=Architecture("tiny", ops).choices,
                cost={"macs": cost.macs, "params": cost.params},
                metrics=None if fitness is None else {"default": fitness, "AP50": 2 * fitness},
                error="RuntimeError: killed" if fitness is None else None,
                generation=0,
                origin="random",
                seconds=1.0,
                finished_at="2030-01-01T00:00:00+00:00",
            )
        )
    return session


def export(session, **options):
    return json.loads(export_best(session.config, session.journal, **options).read_text())


def test_the_best_so_far_is_exported_while_the_search_runs(session):
    path = export_best(session.config, Journal(journal_path(session.folder)))
    assert path == session.folder / "best_architecture.json"
    best = json.loads(path.read_text())
    assert set(best) == {"format", "space", "ops", "choices", "cost", "metrics", "provenance"}
    assert (best["format"], best["space"], best["ops"]) == (1, "tiny", [2] * BLOCKS)
    assert best["choices"] == {f"layer_{block:02}": "shufflenet_7x7" for block in range(BLOCKS)}
    assert best["metrics"] == {"default": 0.4, "AP50": 0.8}
    cost = cost_table("tiny").cost((2,) * BLOCKS)
    assert best["cost"] == {"macs": cost.macs, "params": cost.params, "resolution": 224}


@pytest.mark.parametrize(("rank", "op"), [(1, 2), (2, 3), (3, 0)])
def test_the_second_best_is_the_second_best(session, tmp_path, rank, op):
    out = tmp_path / "elsewhere" / f"{rank}.json"
    assert export(session, rank=rank, out=out)["ops"] == [op] * BLOCKS
    assert not (session.folder / "best_architecture.json").exists()


def test_another_rank_leaves_the_best_where_it_is(session):
    best = export_best(session.config, session.journal)
    second = export_best(session.config, session.journal, rank=2)
    assert second == session.folder / "best_architecture_rank_2.json"
    assert [json.loads(path.read_text())["ops"][0] for path in (best, second)] == [2, 3]


def test_a_rank_that_was_not_evaluated_is_refused(session):
    with pytest.raises(EvaluationError, match=r"journal\.jsonl: 3 finished .* there is no rank 4"):
        export(session, rank=4)


def test_an_empty_journal_has_nothing_to_export(trained_run, make_config):
    session = SearchSession(make_config(trained_run))
    with pytest.raises(EvaluationError, match="0 finished evaluations"):
        export(session)


def test_the_provenance_names_config_supernet_seed_and_versions(session):
    provenance = export(session)["provenance"]
    supernet = session.config.run_dir / "finetune" / "supernet.pt"
    assert provenance.pop("supernet") == file_hash(supernet)
    assert len(provenance.pop("config")) == 16
    versions = provenance.pop("versions")
    assert versions["nni"] == version("nni") and versions["torch"] == version("torch")
    assert {"detnas-nni", "torchvision", "pycocotools", "numpy"} <= set(versions)
    assert provenance == {
        "task": "detection",
        "strategy": "detnas",
        "seed": SEED,
        "evaluation": 2,
        "generation": 0,
        "origin": "random",
        "evaluations": 4,
        "finished_at": "2030-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": SEED + 1},
        {"search": {"strategy": "random"}},
        {"search": {"constraint": {"resolution": 64}}},
        {"evaluation": {"task": "classification"}},
    ],
)
def test_a_search_of_another_config_is_not_exported_as_one_of_this(session, make_config, changed):
    """Its file would name this config's strategy and seed, and another net's cost."""
    best = export_best(session.config, session.journal)
    written = best.read_bytes()
    config = make_config(session.config.run_dir, **changed)
    with pytest.raises(CheckpointError, match="holds a search with another config"):
        export_best(config, session.journal)
    assert best.read_bytes() == written
    longer = make_config(session.config.run_dir, search={"generations": 9})  # extended: the same search
    assert export_best(longer, session.journal) == best


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "of which config and supernet"),
        (None, "of which"),
    ],
)
def test_a_search_that_does_not_say_what_it_is_of_is_an_error_in_a_sentence(session, text, message):
    file = session.folder / "search.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(JournalError, match=rf"search\.json: .*{message}"):
        export_best(session.config, session.journal)
    session.close()
    if text in ("{", "[]"):
        with pytest.raises(JournalError, match=message):
            SearchSession(session.config)


def test_the_choices_go_straight_into_nnis_model_context(session):
    from detnas_nni.models import ClassifierSpace

    best = export(session)
    with model_context(best["choices"]):
        net = ClassifierSpace("tiny", 3, 0.0, {}).eval()
    kernels = {module.kernel_size for module in net.modules() if getattr(module, "groups", 1) > 1}
    assert (7, 7) in kernels and (5, 5) not in kernels
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_the_exported_file_is_read_again_as_an_architecture(session):
    path = export_best(session.config, session.journal)
    assert Architecture.from_json(path) == Architecture("tiny", (2,) * BLOCKS)


def test_a_package_without_a_record_has_no_known_version(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("detnas_nni.search.best.version", missing)
    assert set(versions().values()) == {"unknown"}
