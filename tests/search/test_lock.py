"""One owner a folder: as long as it lives, and not a moment longer."""

import errno
import fcntl
import json
import os
import signal

import pytest

from detnas_nni.search import lock as lock_module
from detnas_nni.search.lock import Owner, SearchLock, SearchRunsError, read_owner, write_owner
from detnas_nni.util.processes import Process, descendants
from tests.processes import SLEEP, started

_HOLD = """
import os, sys
from pathlib import Path
from detnas_nni.search.lock import Owner, SearchLock
folder = Path(sys.argv[1])
lock = SearchLock(folder, Owner.here("nnictl create", experiment="a1b2c3d4", port=8080))
lock.update()
"""
HOLDS = f"{_HOLD}print('ready', flush=True)\n{SLEEP}"
# As a loader's worker does, the child lives on for a while when its parent is killed.
HOLDS_WITH_A_CHILD = f"{_HOLD}if os.fork() == 0:\n    print('ready', flush=True)\n{SLEEP}"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "search"


def locked(folder) -> SearchLock:
    return SearchLock(folder, Owner.here("detnas search"))


def test_the_one_who_comes_second_is_refused_and_told_who_was_first(folder):
    child = started(HOLDS, str(folder))
    owner = (
        rf"run/search: process {child.pid} on \S+ "
        r"\(`nnictl create`, experiment a1b2c3d4, web UI on port 8080\) since \S+ searches here already"
    )
    with pytest.raises(SearchRunsError, match=owner):
        locked(folder)
    child.kill()
    child.wait()
    locked(folder).release()


@pytest.mark.parametrize("script", [HOLDS, HOLDS_WITH_A_CHILD], ids=["alone", "with a child that lives on"])
def test_a_killed_owner_leaves_no_lock_behind(folder, script):
    child = started(script, str(folder))
    children = descendants(Process.of(child.pid))
    child.send_signal(signal.SIGKILL)
    child.wait()
    mine = locked(folder)
    mine.update()
    assert read_owner(folder).process == Process.current()
    mine.release()
    assert all(process.send(signal.SIGKILL) for process in children)


def test_a_released_lock_is_free_within_one_process_too(folder):
    first = locked(folder)
    first.update()
    with pytest.raises(SearchRunsError):
        locked(folder)
    first.release()
    locked(folder).release()


def test_the_lock_stands_beside_the_folder_which_fresh_clears(folder):
    mine = locked(folder)
    assert not folder.exists()
    assert (folder.parent / ".search.lock").exists()
    mine.release()


def test_the_owner_is_read_as_it_was_written(folder):
    owner = Owner.here(
        "nnictl create",
        manager=Process(1, "x/1", "here"),
        guard=Process(2, "x/2", "here"),
        experiment="a1b2c3d4",
        port=8080,
        ended=True,
    )
    assert read_owner(folder) is None
    write_owner(folder, owner)
    assert read_owner(folder) == owner
    (folder / "owner.json").write_text(json.dumps({"pid": 1}))
    assert read_owner(folder) is None


def test_an_owner_whose_manager_is_dead_is_waited_for(folder, monkeypatch):
    """Its guard ends it within seconds; a user who starts again at once is not to be sent away."""
    child = started(HOLDS, str(folder))
    dead = Process.of(child.pid).__class__(2**22 - 1, "no such start", Process.current().host)
    write_owner(folder, Owner(**{**vars(read_owner(folder)), "manager": dead}))
    monkeypatch.setattr(lock_module, "_PATIENCE", 0.5)
    with pytest.raises(SearchRunsError):
        locked(folder)  # it waits for so long, and no longer
    monkeypatch.setattr(lock_module, "_PATIENCE", 30.0)
    os.system(f"(sleep 1; kill -9 {child.pid}) &")
    mine = locked(folder)
    child.wait()
    mine.release()


def test_where_the_file_system_has_no_locks_the_search_runs_and_the_user_is_warned(
    folder, monkeypatch, caplog
):
    def not_supported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", not_supported)
    locked(folder).release()
    assert "this file system has no locks" in caplog.text
