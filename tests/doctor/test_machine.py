"""Ports, shared memory, open files and folders of the machine that the tests run on."""

import resource

from detnas_nni.doctor import machine
from tests.doctor.findings import listening, statuses


def test_a_web_ui_port_in_use_is_a_warning_with_one_that_is_free():
    with listening("127.0.0.1") as port:
        [found] = machine.ports(port)
    assert found.status == "warning"
    assert f"{port}, nnictl's default, is in use" in found.text
    free = int(found.remedy.split("--port ")[1].split()[0])
    assert free != port
    with listening("127.0.0.1", free):
        pass


def test_a_free_port_is_still_free_after_the_look():
    with listening("127.0.0.1") as port:
        pass
    [found] = machine.ports(port)
    assert found.status == "ok"
    with listening("127.0.0.1", port):
        pass


def test_shared_memory_is_held_against_the_batches_that_loader_processes_have_ready(make_config, tmp_path):
    huge = {"pretrain": {"batch_size": 10**9}, "hardware": {"workers": 8}}
    [found] = machine.shared_memory(make_config(tmp_path, **huge), folder=tmp_path)
    assert found.status == "warning"
    # 8 workers x 2 batches x 10^9 images of 3 x 32 x 32 float32
    assert f"{8 * 2 * 10**9 * 3 * 32 * 32 * 4 / 1e9:.1f} GB" in found.text
    assert "--shm-size=" in found.remedy
    alone = make_config(tmp_path, **{**huge, "hardware": {"workers": 0}})
    assert statuses(machine.shared_memory(alone, folder=tmp_path)) == {str(tmp_path): "ok"}


def test_the_limit_of_open_files_is_held_against_the_loaders(make_config, tmp_path):
    many = make_config(tmp_path, finetune={"batch_size": 16}, hardware={"workers": 4})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        [found] = machine.open_files(many)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.status == "warning"
    assert found.remedy.startswith(f"ulimit -n {256 + 4 * 2 * 16 * 5}")


def test_a_folder_that_cannot_be_written_to_is_a_problem_and_one_that_can_is_left_as_it_was(
    make_config, tmp_path
):
    (tmp_path / "a_file").touch()
    config = make_config(
        tmp_path / "new" / "run", pretrain_dir=str(tmp_path / "a_file" / "x"), finetune_dir="/proc/x"
    )
    assert statuses(machine.writable_folders(config)) == {
        "run_dir": "ok",
        "pretrain_dir": "problem",
        "finetune_dir": "problem",
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["a_file"]
