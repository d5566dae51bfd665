"""A trial's scalars, where NNI's web UI looks for them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detnas_nni.search.nnictl.trial import write_board


def test_the_scalars_are_where_nni_looks_and_their_step_is_the_share_of_the_split(tmp_path, monkeypatch):
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "environments/local-env/trials/a1B2c"))
    folder = write_board({"default": 0.5, "AP50": 0.75}, (0.125, 0.25, 0.375, 0.5))
    assert folder == tmp_path / "trials/a1B2c/output/tensorboard"
    board = EventAccumulator(str(folder)).Reload()
    found = [(event.step, event.value) for event in board.Scalars("fitness")]
    assert found == [(25, 0.125), (50, 0.25), (75, 0.375), (100, 0.5)]
    assert [(event.step, event.value) for event in board.Scalars("AP50")] == [(100, 0.75)]


@pytest.mark.parametrize("own", [None, "/elsewhere", "remote/trials/a1B2c"])
def test_outside_of_nnis_local_service_nothing_is_written(tmp_path, monkeypatch, own):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NNI_OUTPUT_DIR", raising=False)
    if own is not None:
        monkeypatch.setenv("NNI_OUTPUT_DIR", own)
    assert write_board({"default": 0.5}, (0.5,)) is None
    assert list(tmp_path.iterdir()) == []
