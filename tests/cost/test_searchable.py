"""A trunk of the user's own is looked at before it is trained: refused in a sentence, or told what it is."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from detnas_nni.config import Config
from detnas_nni.cost.searchable import check_searchable
from detnas_nni.doctor.steps import examine_run
from detnas_nni.supernet.steps import finetune, pretrain
from search_spaces import SpaceError
from tests.doctor.findings import only

ORDINARY = "tests.search_spaces.ordinary:"
REFUSED = {
    "deformable": "torch's flop counter has no formula for torchvision::deform_conv2d",
    "wider": r"candidate 1 of 'low' gives \(1, 12, .*have to give the same shape",
    "failing": "fails on an image of 224x224 pixels",
    "unlabelled": "has a LayerChoice without a label",
    "one_label_for_more": "LayerChoices of the same label, 'block', with different candidates",
}


@pytest.fixture
def make(make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., Config]:
    """make(name): the config of a small experiment with that ordinary trunk."""

    def config(name: str) -> Config:
        finetune = {"init": "scratch", "steps": 1}
        return make_config(tmp_path / "run", space={"name": ORDINARY + name}, finetune=finetune)

    return config


@pytest.mark.parametrize("name", REFUSED)
def test_a_trunk_that_a_search_would_refuse_is_not_trained(name: str, make: Callable[..., Config]) -> None:
    config = make(name)
    for train in (finetune, pretrain):
        with pytest.raises(SpaceError, match=REFUSED[name]):
            train(config)
    assert not config.run_dir.exists()


def test_doctor_says_so_too(make: Callable[..., Config]) -> None:
    found = only(examine_run(make("wider"), "my.yaml"), "space.name")
    assert found.status == "problem" and "have to give the same shape" in found.text


@pytest.mark.parametrize("name", ["subclassed", "concatenated", "grouped"])
def test_ordinary_pytorch_is_trained(name: str, make: Callable[..., Config]) -> None:
    assert finetune(make(name)).is_file()


def test_what_was_found_is_told(make: Callable[..., Config], caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("onnx")
    with caplog.at_level(logging.INFO):
        found = check_searchable(make("grouped"))
    # The stem, a grouped convolution and one of 1x1; or two of 3x3.
    places = 112 * 112
    least = (8 * 27 + 8 * 2 * 9 + 16 * 8 / 4) * places / 1e6
    most = (8 * 27 + 8 * 8 * 9 + 16 * 8 * 9 / 4) * places / 1e6
    text = f"{ORDINARY}grouped: 2 blocks, {least:.1f} to {most:.1f} million MACs at 224 px; exports to ONNX"
    assert str(found) == text and text in caplog.text
    finding = only(examine_run(make("grouped"), "my.yaml"), "space.name")
    assert (finding.status, finding.text) == ("ok", text)


def test_what_does_not_export_is_a_remark_and_no_refusal(
    make: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnx")
    found = check_searchable(make("angled"))
    assert "; does not export to ONNX: UnsupportedOperatorError: " in str(found) and str(found) in caplog.text
    assert only(examine_run(make("angled"), "my.yaml"), "space.name").status == "warning"


def test_of_a_built_in_space_nothing_has_to_be_looked_at(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    assert check_searchable(make_config(tmp_path / "run")) is None
