"""A run folder has one owner: whoever comes second changes nothing and is told so."""

import errno
import json
import multiprocessing
import os
import signal
import tempfile

import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import RunInUseError, RunNotFoundError, SpecError
from lightalign.featcache.file_locks import FileLock
from lightalign.featcache.store.locks import ShardLocks
from lightalign.pipelines.common import stopping
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.reports import run_list
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.search import build_index
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign, slow, tree_bytes
from ..made_runs import made_run
from ..training.test_resume import stop_in_epoch
from ..training.test_train import QUICK, quick_train

SPEC = {"seed": 3}
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks


def stopped_run(home, name="mine"):
    return made_run(home, name, stopped_in=2)


def test_a_run_that_is_being_written_is_refused_to_others_by_name_of_its_holder(home):
    with (
        run_folder.new_run(home, "mine", "x", spec=SPEC) as folder,
        pytest.raises(RunInUseError, match=f"in use by process {os.getpid()} on .* since"),
    ):
        quick_train(home, name="mine")
    assert sorted(path.name for path in folder.iterdir()) == [run_folder.SPEC]


def test_a_stopped_run_is_refused_with_the_two_ways_out_and_stays_as_it_was(home):
    folder = stopped_run(home)
    before = tree_bytes(folder)
    for _ in range(2):
        with pytest.raises(RunInUseError, match=r"--resume mine .*runs rm mine "):
            quick_train(home, name="mine", seed=5)
        assert tree_bytes(folder) == before
    assert train.resume(home, "mine", device="cpu").report["epochs"] == 2


def test_a_fine_tuning_does_not_touch_a_stopped_training(home):
    start = made_run(home, "start")
    folder = stopped_run(home)
    before = tree_bytes(folder)
    done = lightalign("fine-tune", start.name, "--data", "cifar10", "--name", "mine", home=home)
    assert done.returncode == 2
    assert "lightalign runs rm mine" in done.stderr
    assert tree_bytes(folder) == before


def test_a_resume_of_a_run_that_is_being_trained_is_refused(home):
    folder = stopped_run(home)
    before = tree_bytes(folder)
    with run_folder.owning(folder), pytest.raises(RunInUseError, match="in use by process"):
        train.resume(home, "mine", device="cpu")
    assert tree_bytes(folder) == before


def test_a_failure_before_the_first_epoch_leaves_no_run(home):
    with pytest.raises(ZeroDivisionError), run_folder.new_run(home, "mine", "x", spec=SPEC):
        raise ZeroDivisionError
    assert run_folder.run_folders(home) == []


@pytest.mark.parametrize("broken", [None, "mkdtemp", "fsync"])
def test_a_failure_on_a_full_disk_leaves_no_run_and_is_what_is_told(home, monkeypatch, broken):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "elsewhere")

    def fail() -> None:
        with run_folder.new_run(home, "mine", "x", spec=SPEC):
            if broken is not None:
                monkeypatch.setattr(tempfile if broken == "mkdtemp" else os, broken, full)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(run_folder.runs_folder(home).iterdir()) == []


def test_a_run_whose_name_cannot_be_made_durable_is_not_left_behind(home, monkeypatch):
    sync = atomic_files.sync

    def fail(folder):
        if folder == run_folder.runs_folder(home) and (folder / "mine").is_dir():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))
        sync(folder)

    monkeypatch.setattr(atomic_files, "sync", fail)
    with (
        pytest.raises(OSError, match="Input/output error"),
        run_folder.new_run(home, "mine", "x", spec=SPEC),
    ):
        pytest.fail("the run must not begin")
    assert not run_folder.runs_folder(home).exists()


def test_a_file_anywhere_in_a_run_is_written_under_its_lock_and_waits_for_no_lock_of_ours(home):
    with run_folder.new_run(home, "mine", "x", spec=SPEC) as folder:
        for place in (folder / "page.html", folder / "index" / "d" / "page.html"):
            with run_folder.owning_place(place):
                assert FileLock(folder / run_folder.LOCK).claim() is False
        assert FileLock(folder / run_folder.LOCK).claim() is False
    for place in (folder / "page.html", folder / "index" / "d" / "page.html"):
        with run_folder.owning_place(place):
            assert FileLock(folder / run_folder.LOCK).claim() is False
    with run_folder.owning_place(home / "page.html"):
        assert FileLock(folder / run_folder.LOCK).claim()


def test_a_file_of_the_name_of_a_spec_makes_no_run_of_a_folder_of_the_user(tmp_path):
    (tmp_path / run_folder.SPEC).write_text("of another program")
    (tmp_path / ".tmpAb3dE6").write_text("of another program")
    (tmp_path / "pages").mkdir()
    with run_folder.owning_place(tmp_path / "pages" / "page.html"):
        pass
    assert (tmp_path / ".tmpAb3dE6").is_file()


def test_a_failure_removes_nothing_that_could_go_on(home):
    def fail() -> None:
        with run_folder.new_run(home, "mine", "x", spec=SPEC) as folder:
            (folder / run_folder.STATE).write_bytes(b"an epoch")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (run_folder.runs_folder(home) / "mine" / run_folder.STATE).is_file()


def test_a_failure_after_the_report_removes_no_finished_run(home):
    def fail() -> None:
        with run_folder.new_run(home, "mine", "x", spec=SPEC) as folder:
            (folder / run_folder.REPORT).write_text("{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (run_folder.runs_folder(home) / "mine" / run_folder.REPORT).is_file()


def test_a_stopped_training_says_how_to_go_on_by_its_own_name(home, monkeypatch):
    stop_in_epoch(monkeypatch, 2)
    spec = TrainSpec(home=home, preset="lightalign/fusion", overrides=QUICK, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train.run(spec, Progress())
    (folder,) = run_folder.run_folders(home)
    again = f"lightalign train-adapter --resume {folder.name} --home {home}"
    assert stopping.kept() == f"finished epochs are kept: `{again}` goes on"


def test_a_folder_of_somebody_else_is_left_alone(home):
    place = run_folder.runs_folder(home) / "mine"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(SpecError, match="holds no run"):
        quick_train(home, name="mine")
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


def test_runs_without_a_name_get_folders_of_their_own(home):
    with (
        run_folder.new_run(home, None, "x", spec=SPEC) as first,
        run_folder.new_run(home, None, "x", spec=SPEC) as second,
    ):
        assert first != second
    assert len(run_folder.run_folders(home)) == 2


def race(commands, home) -> list[int]:
    """Run commands at the same moment, each in a fork of this process; return their exit codes."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(commands))

    def work(arguments) -> None:
        barrier.wait()
        os._exit(lightalign(*arguments, home=home).returncode)

    children = [context.Process(target=work, args=(arguments,)) for arguments in commands]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def train_command(*more):
    sets = [part for override in QUICK for part in ("--set", override)]
    return ("train-adapter", "--preset", "lightalign/fusion", "--device", "cpu", *sets, *more)


# a stride in the default suite; all twenty rounds with `-m slow`
ROUNDS = pytest.mark.parametrize("rounds", [2, *slow(20)])
RESUME = ("train-adapter", "--device", "cpu", "--resume")


def races(home, rounds, *commands, stopped=False):
    """Yield the folder and the exit codes of each race of commands that end with a run's name."""
    for number in range(rounds):
        name = f"race-{number}"
        if stopped:
            stopped_run(home, name)
        codes = race([(*command, name) for command in commands], home)
        yield run_folder.runs_folder(home) / name, codes


def epochs_of(folder) -> list[int]:
    return [
        json.loads(line)["epoch"] for line in (folder / run_folder.LOG).read_text().splitlines()
    ]


@ROUNDS
def test_of_two_trainings_of_one_name_exactly_one_proceeds(home, rounds):
    commands = [train_command("--seed", seed, "--name") for seed in "12"]
    for folder, codes in races(home, rounds, *commands):
        assert sorted(codes) == [0, 2]
        assert run_folder.read_report(folder)["spec"]["seed"] == codes.index(0) + 1
        assert epochs_of(folder) == [1, 2]
        assert not (folder / run_folder.LOCK).exists()


@ROUNDS
def test_of_two_resumes_exactly_one_proceeds(home, rounds):
    whole = made_run(home, "whole")
    for folder, codes in races(home, rounds, RESUME, RESUME, stopped=True):
        assert sorted(codes) == [0, 2]
        assert (folder / run_folder.WEIGHTS).read_bytes() == (
            whole / run_folder.WEIGHTS
        ).read_bytes()
        assert epochs_of(folder) == [1, 2]


@ROUNDS
def test_a_training_beside_a_resume_of_its_name_is_refused(home, rounds):
    training = train_command("--seed", "7", "--name")
    for folder, codes in races(home, rounds, training, RESUME, stopped=True):
        assert codes == [2, 0]
        assert run_folder.read_report(folder)["spec"]["seed"] == 0


@ROUNDS
def test_a_removal_beside_a_resume_leaves_all_or_nothing(home, rounds):
    for folder, codes in races(home, rounds, ("runs", "rm"), RESUME, stopped=True):
        if folder.exists():
            assert codes == [2, 0]
            assert (folder / run_folder.REPORT).is_file()
        else:
            assert codes[0] == 0  # at once, or after the resume had finished


def test_a_run_that_is_still_being_trained_is_read_by_nobody_and_that_is_said(home):
    with (
        run_folder.new_run(home, "mine", "x", spec=SPEC),
        pytest.raises(RunInUseError, match=f"is being trained by process {os.getpid()} .* since"),
    ):
        run_folder.find_run(home, "mine")


def test_who_only_looks_at_a_lock_refuses_nobody(home, monkeypatch):
    """A look is a shared lock of a moment, in which a claim fails and nobody holds it."""
    folder = stopped_run(home)
    claims = iter([False, False, True])
    claim = FileLock.claim
    monkeypatch.setattr(FileLock, "claim", lambda self: next(claims) and claim(self))
    with run_folder.owning(folder):
        assert next(claims, None) is None


def test_a_link_to_a_run_is_removed_and_the_run_stays_as_it_was(home, tmp_path):
    target = made_run(home, "mine").rename(tmp_path / "target")
    link = run_folder.runs_folder(home) / "mine"
    link.symlink_to(target)
    before = tree_bytes(target)
    with run_folder.owning(target):
        assert lightalign("runs", "rm", "mine", home=home).returncode == 2
    assert link.is_symlink()
    assert lightalign("runs", "rm", "mine", home=home).returncode == 0
    assert not link.is_symlink()
    assert tree_bytes(target) == before


def test_an_index_holds_its_run(home, monkeypatch):
    folder = made_run(home, "mine")
    codes = []
    build = build_index._Split.build

    def remove_first(*arguments):
        codes.append(lightalign("runs", "rm", "mine", home=home).returncode)
        return build(*arguments)

    monkeypatch.setattr(build_index._Split, "build", remove_first)
    build_index.run(build_index.IndexSpec(home=home, run="mine", split="test", device="cpu"))
    assert codes == [2]
    assert (folder / run_folder.INDEXES).is_dir()


def test_a_killed_holder_frees_its_run(home):
    folder = stopped_run(home)
    child = os.fork()
    if child == 0:
        with run_folder.owning(folder):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (folder / run_folder.LOCK).is_file()
    assert run_folder.state_of(folder) is run_folder.RunState.STOPPED
    train.resume(home, "mine", device="cpu")
    assert not (folder / run_folder.LOCK).exists()


def test_a_run_that_is_in_use_is_not_removed_and_one_that_is_not_goes_whole(home):
    folder = made_run(home, "mine")
    with run_folder.owning(folder):
        refused = lightalign("runs", "rm", "mine", home=home)
    assert (refused.returncode, "in use by process" in refused.stderr) == (2, True)
    assert (folder / run_folder.REPORT).is_file()
    assert lightalign("runs", "rm", "mine", home=home).returncode == 0
    assert list(run_folder.runs_folder(home).iterdir()) == []
    with pytest.raises(RunNotFoundError, match=r"no run 'mine' in .*; there are: none"):
        run_folder.remove_run(home, "mine")


@pytest.mark.parametrize("name", ["..", ".", "", "../features", "a/b"])
def test_what_is_no_name_of_a_run_removes_nothing(home, name):
    made_run(home, "mine")
    with pytest.raises(RunNotFoundError):
        run_folder.remove_run(home, name)
    assert (home / "features").is_dir()
    assert (run_folder.runs_folder(home) / "mine").is_dir()


def test_the_list_says_of_each_run_what_it_is_newest_first(home):
    trained = quick_train(home, name="first")
    stopped_run(home, "second")
    (run_folder.runs_folder(home) / "third").mkdir()
    (run_folder.runs_folder(home) / "first.txt").write_text("no run")
    listed = json.loads(lightalign("runs", "list", "--json", home=home).stdout)["runs"]
    assert [(run["name"], run["state"]) for run in listed] == [
        ("second", "stopped"),
        ("first", "finished"),
        ("third", "damaged"),
    ]
    first = listed[1]
    assert first["preset"] == "lightalign/fusion"
    assert first["data"] == "shapes/train"
    assert first["encoders"] == {
        "image": "toy-image tokens@-1 float16",
        "text": "toy-text tokens@-1 float16",
    }
    recalls = trained.report["best"]["validation"]
    assert first["numbers"]["validation text to image R@1"] == recalls["text_to_image"]["1"]
    size = sum(len(content) for content in tree_bytes(trained.folder).values())
    assert first["bytes"] == size


def test_a_retrieval_is_the_headline_where_there_is_one(home):
    made_run(home, "mine")
    report = json.loads(lightalign("retrieve", "mine", "--json", "--k", "5", home=home).stdout)
    (entry,) = run_list.list_runs(home)
    expected = report["metrics"]["text_to_image"]["recall"]["1"]["value"]
    assert entry.numbers["test text to image R@1"] == expected
    shown = json.loads(lightalign("runs", "show", "mine", "--json", home=home).stdout)
    assert shown["evaluations"] == ["retrieval-shapes-test.json"]
    assert shown["spec"]["seed"] == 0


@pytest.mark.parametrize("content", ["[]", "{", '{"spec": 3}', '{"spec": {"stores": []}}'])
def test_a_damaged_run_is_named_and_the_others_are_listed(home, content):
    folder = made_run(home, "mine")
    made_run(home, "other")
    (folder / run_folder.REPORT).write_text(content)
    listed = {entry.name: entry for entry in run_list.list_runs(home)}
    assert listed["mine"].state == "damaged"
    assert listed["mine"].problem
    assert listed["other"].state == "finished"
    assert lightalign("runs", "list", home=home).returncode == 0


def test_locks_of_shards_and_of_runs_do_not_meet(home):
    with run_folder.new_run(home, "mine", "x", spec=SPEC) as folder, ShardLocks(folder) as shards:
        assert shards.claim(0)
