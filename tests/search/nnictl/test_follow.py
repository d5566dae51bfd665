"""What following an experiment makes of NNI's status and the search's own word."""

import pytest

from detnas_nni.search.nnictl.follow import _Stand, _stand


@pytest.mark.parametrize(
    ("status", "busy", "is_quiet", "ended", "then"),
    [
        ("ERROR", True, False, None, _Stand.BROKEN),
        ("STOPPED", False, True, True, _Stand.BROKEN),  # the server has ended, whatever the search says
        ("RUNNING", False, False, True, _Stand.ENDED),
        ("RUNNING", True, False, True, _Stand.GOES_ON),  # its last trials are still told of
        ("TUNER_NO_MORE_TRIAL", False, False, None, _Stand.GOES_ON),  # which a tuner that waits says, too
        ("TUNER_NO_MORE_TRIAL", False, True, None, _Stand.ENDED),
        ("TUNER_NO_MORE_TRIAL", False, True, False, _Stand.GOES_ON),
        ("DONE", False, True, False, _Stand.CUT),
        ("DONE", False, False, False, _Stand.GOES_ON),
    ],
)
def test_an_experiment_is_followed_to_its_end_and_no_further(
    status: str, busy: bool, is_quiet: bool, ended: bool | None, then: _Stand
) -> None:
    assert _stand(status, busy, is_quiet, ended) is then
