"""A latency table adds up, comes back from its file as it was, and is refused where it does not fit."""

import json

import pytest

from detnas_nni.architecture import Architecture
from detnas_nni.cost.latency_table import read_latency_table
from detnas_nni.cost.table import cost_table, counts
from detnas_nni.errors import LatencyError
from search_spaces import layout
from tests.cost.latencies import FOREIGN, by_hand, changed_file

MIXED = (0, 3, 1, 2, 0, 3, 3, 1, 0)


def test_a_prediction_is_the_rest_and_a_number_a_block():
    expected = 900 + sum(100 + 10 * block + 7 * op + 50 * (op == 3) for block, op in enumerate(MIXED))
    assert by_hand().predict(MIXED) == expected
    assert by_hand().predict((0,) * 9) == 900 + 900 + 10 * 36


def test_the_cost_table_with_latency_adds_up_to_the_same():
    plain = cost_table("tiny")
    table = plain.with_latency(by_hand())
    assert table.cost(MIXED).latency_us == by_hand().predict(MIXED)
    assert (table.cost(MIXED).macs, table.cost(MIXED).params) == (
        plain.cost(MIXED).macs,
        plain.cost(MIXED).params,
    )
    assert plain.cost(MIXED).latency_us is None
    assert plain.cost(MIXED).to_dict().keys() == {"macs", "params"}
    assert table.cost(MIXED).to_dict()["latency_ms"] == by_hand().predict(MIXED) / 1000


def test_count_knows_the_latency_if_it_is_given_a_table():
    arch = Architecture("tiny", MIXED)
    assert counts(arch, latency=by_hand()) == {**counts(arch), "latency_ms": by_hand().predict(MIXED) / 1000}


def test_a_table_comes_back_from_its_file_as_it_was(tmp_path):
    by_hand().save(tmp_path / "new" / "latency.json")
    assert read_latency_table(tmp_path / "new" / "latency.json", space="tiny", options={}) == by_hand()


def test_the_file_names_every_candidate(tmp_path):
    by_hand().save(tmp_path / "latency.json")
    document = json.loads((tmp_path / "latency.json").read_text())
    assert document["blocks_us"]["layer_02"]["xception_3x3"] == 100 + 20 + 21 + 50
    assert document["check"]["kendall_tau"] == 0.93


def test_a_foreign_space_has_its_table_too(foreign_trunks, tmp_path):
    """Its candidates may be numbers, and JSON's keys are strings."""
    FOREIGN.save(tmp_path / "latency.json")
    assert read_latency_table(tmp_path / "latency.json", space="foreign:mobile") == FOREIGN


def test_the_fingerprint_is_of_what_is_predicted_and_for_what(tmp_path):
    same = changed_file(tmp_path / "same.json", lambda d: d.pop("check"))
    other = changed_file(
        tmp_path / "other.json", lambda d: d["blocks_us"]["layer_03"].update(xception_3x3=999)
    )
    prints = [read_latency_table(path, space="tiny").fingerprint for path in (same, other)]
    assert prints[0] == by_hand().fingerprint != prints[1]
    assert by_hand(device="another board").fingerprint != by_hand().fingerprint


def test_without_a_file_it_says_which_command_measures_one(tmp_path):
    with pytest.raises(LatencyError, match=r"missing\.json: cannot be read \(No such file.*detnas latency"):
        read_latency_table(tmp_path / "missing.json", space="tiny")


def layer_04(document):
    return document["blocks_us"]["layer_04"]


def swap_blocks(document):
    document["blocks_us"] = dict(reversed(document["blocks_us"].items()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "key 'format': Input should be 1"),
        (lambda d: d.pop("rest_us"), "key 'rest_us': Field required"),
        (lambda d: d.update(surprise=1), "key 'surprise': Extra inputs"),
        (lambda d: d["blocks_us"].pop("layer_04"), "key 'blocks_us' needs the 9 blocks of 'tiny'"),
        (swap_blocks, "key 'blocks_us' needs the 9 blocks of 'tiny', in their order"),
        (lambda d: layer_04(d).pop("shufflenet_5x5"), r"'blocks_us\.layer_04' needs the candidates"),
        (lambda d: layer_04(d).update(shufflenet_5x5=-3), r"blocks_us\.layer_04\.shufflenet_5x5'"),
        (lambda d: layer_04(d).update(shufflenet_5x5=1.5), "valid integer"),
        (lambda d: layer_04(d).update(shufflenet_5x5=True), "valid integer"),
        (lambda d: d["conditions"].update(space="small"), "for the space 'small', but 'tiny' is needed"),
        (lambda d: d["conditions"].update(space="os:system"), "for the space 'os:system', but 'tiny'"),
        (lambda d: d["conditions"].update(options={"shuffle": "x"}), r"options \{'shuffle': 'x'\}, but \{\}"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name_and_key(tmp_path, change, message):
    path = changed_file(tmp_path / "latency.json", change)
    with pytest.raises(LatencyError, match=rf"latency\.json: .*{message}"):
        read_latency_table(path, space="tiny", options={})


def test_a_default_that_is_spelled_out_is_no_other_option(tmp_path):
    spelled_out = {"shuffle": "interleave"}
    for measured, wanted in (({}, spelled_out), (spelled_out, {})):
        by_hand(options=measured).save(tmp_path / "latency.json")
        read_latency_table(tmp_path / "latency.json", space="tiny", options=wanted)
        with pytest.raises(LatencyError, match=r"but \{'shuffle': 'even_odd'\} are needed"):
            read_latency_table(tmp_path / "latency.json", space="tiny", options={"shuffle": "even_odd"})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"x"', b"[" * 10_000, b" " * 1_000_001])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "latency.json"
    path.write_bytes(content)
    with pytest.raises(LatencyError, match=r"latency\.json: "):
        read_latency_table(path, space="tiny")


def test_the_tables_blocks_are_the_spaces():
    assert len(by_hand().blocks_us) == len(layout("tiny"))
