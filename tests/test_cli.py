import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightalign.featcache.documents import tomllib

from .helpers import lightalign, slow, tree_bytes
from .pipelines.conftest import SCENES

SETS = [part for key, value in SCENES.items() for part in ("--set", f"source.{key}={value}")]
QUICK = ["--set", "train.epochs=2", "--set", "train.batch_size=8"]
QUICK += ["--set", "towers.both.project.out=32", "--preset", "lightalign/fusion"]


def in_new_process(*arguments: str, home: Path, **environment: str):
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lightalign", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "LIGHTALIGN_HOME": str(home), **environment},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home where the three commands have been run, with what they printed."""
    home = tmp_path_factory.mktemp("home")
    done = {
        "image": lightalign(
            "extract", "--encoder", "toy-image", "--data", "shapes", *SETS, home=home
        ),
        "text": lightalign(
            "extract", "--encoder", "toy-text", "--data", "shapes", *SETS, home=home
        ),
        "train": lightalign("train-adapter", "--fusion", "cross_attn", *QUICK, home=home),
        "retrieve": lightalign("retrieve", "--k", "100", home=home),
    }
    for result in done.values():
        assert result.returncode == 0, result.stderr
    return home, done


def test_the_three_commands_say_what_they_did(home):
    _, done = home
    assert "toy-image train: 24 rows" in done["image"].stdout
    assert "toy-text test: 40 rows" in done["text"].stdout
    assert (
        "training on shapes/train: images by toy-image (tokens@-1 float16), "
        "texts by toy-text (tokens@-1 float16)" in done["train"].stderr
    )
    assert "kept epoch" in done["train"].stdout
    assert "run " in done["retrieve"].stderr
    assert "text to image" in done["retrieve"].stdout
    assert "(12.5)" in done["retrieve"].stdout  # chance of R@1 among 8 images, in percent


def test_the_package_runs_as_a_program(home):
    command = ["extract", "--encoder", "toy-image", "--data", "shapes", *SETS]
    result = in_new_process(*command, home=home[0])
    assert result.returncode == 0, result.stderr
    assert "toy-image train: 24 rows" in result.stdout


def test_presets_are_listed_shown_and_checked(tmp_path, monkeypatch):
    listed = lightalign("presets", "list", "--json", home=tmp_path)
    names = [row["name"] for row in json.loads(listed.stdout)["presets"]]
    assert {"lightcrl/scaled-dot", "peme/bridge", "linear"} <= set(names)
    shown = lightalign("presets", "show", "lightcrl/additive-corrected", home=tmp_path)
    table = tomllib.loads(shown.stdout)
    assert table["towers"]["both"]["mix"] == {"part": "transformer", "layers": 1, "heads": 4}
    assert table["train"]["batch_size"] == 64  # of what it extends
    checked = lightalign("presets", "check", "lightcrl/addition", "--json", home=tmp_path)
    assert json.loads(checked.stdout)["presets"] == [
        {
            "preset": "lightcrl/addition",
            "image_width": 768,
            "text_width": 768,
            "parameters": 1_884_039,
            "expected": 1_884_039,
            "right": True,
        }
    ]
    from lightalign.adapters import check

    preset = check.read_preset("linear")
    wrong = {**preset, "check": {"widths": {"image": 8, "text": 8}, "parameters": 1}}
    monkeypatch.setattr(check, "read_preset", lambda _: wrong)
    assert lightalign("presets", "check", "linear", home=tmp_path).returncode == 1


def test_json_is_one_object_on_stdout_and_nothing_else(home):
    result = lightalign("retrieve", "--k", "3", "--json", home=home[0])
    report = json.loads(result.stdout)
    assert len(report["metrics"]["text_to_image"]["curve"]["k"]) == 3
    extracted = lightalign(
        "extract", "--encoder", "toy-image", "--data", "shapes", *SETS, "--json", home=home[0]
    )
    assert [split["encoded"] for split in json.loads(extracted.stdout)["stores"]] == [0, 0, 0]


def test_quiet_leaves_stderr_empty(home):
    result = lightalign("retrieve", "--quiet", home=home[0])
    assert result.stderr == ""
    assert "text to image" in result.stdout


def test_the_cache_can_be_listed_shown_and_verified(home):
    listed = json.loads(lightalign("cache", "ls", "--json", home=home[0]).stdout)["stores"]
    assert len(listed) == 6
    assert {row["state"] for row in listed} == {"complete"}
    info = json.loads(
        lightalign("cache", "info", listed[0]["store"], "--json", home=home[0]).stdout
    )
    assert info["keyed"]["dtype"] == "float16"
    assert info["skipped"] == []
    verified = lightalign("cache", "verify", home=home[0])
    assert verified.returncode == 0
    assert "6 stores read, 0 damaged files" in verified.stdout


def test_verify_exits_1_and_names_the_damaged_file(tmp_path):
    small = [*SETS, "--split", "val"]
    lightalign("extract", "--encoder", "toy-image", "--data", "shapes", *small, home=tmp_path)
    victim = next(path for path in tmp_path.rglob("c/0/0/0"))
    victim.write_bytes(b"\x01" + victim.read_bytes()[1:])
    result = lightalign("cache", "verify", home=tmp_path)
    assert result.returncode == 1
    assert f"{victim}: checksum differs" in result.stdout


def test_two_stores_are_explained_by_the_values_they_differ_in(home):
    listed = json.loads(lightalign("cache", "ls", "--json", home=home[0]).stdout)["stores"]
    first, second = sorted(row["store"] for row in listed if "toy-image" in row["store"])[:2]
    result = lightalign("cache", "explain", first, second, "--json", home=home[0])
    fields = [difference["field"] for difference in json.loads(result.stdout)["differences"]]
    assert sorted(fields) == ["source", "split"]
    shown = lightalign("cache", "explain", first, home=home[0]).stdout
    assert "2 values differ" in shown
    assert "split" in shown


def test_a_store_of_a_run_is_removed_by_force_only(home, tmp_path):
    copy = tmp_path / "home"
    shutil.copytree(home[0], copy)
    (store,) = (copy / "features" / "shapes" / "train").glob("toy-image--*")
    refused = lightalign("cache", "rm", str(store), home=copy)
    assert refused.returncode == 2
    assert "add --force" in refused.stderr
    removed = lightalign("cache", "rm", str(store), "--force", "--json", home=copy)
    assert removed.returncode == 0, removed.stderr
    assert json.loads(removed.stdout)["store"] == str(store)
    assert not store.exists()
    assert len(json.loads(lightalign("cache", "ls", "--json", home=copy).stdout)["stores"]) == 5


@pytest.mark.parametrize("format", ["parquet", "npy", "safetensors"])
def test_a_store_is_exported_once_unless_forced(home, tmp_path, format):
    (store,) = (home[0] / "features" / "shapes" / "val").glob("toy-text--*")
    command = ["cache", "export", str(store), str(tmp_path / "out"), "--format", format]
    result = lightalign(*command, "--json", home=home[0])
    assert json.loads(result.stdout)["rows"] == 5 * SCENES["val"]  # captions of each picture
    refused = lightalign(*command, home=home[0])
    assert refused.returncode == 2
    assert "is there already" in refused.stderr
    assert "40 rows" in lightalign(*command, "--force", home=home[0]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "--encoder", "dino-vits61", "--data", "shapes"], "close: ['dino-vits16'"),
        (["extract", "--encoder", "toy-image", "--data", "flickr30k"], "results.csv"),
        (["extract", "--encoder", "dino-vits16", "--data", "shapes"], "--weights"),
        (["extract", "--encoder", "toy-image", "--data", "shapes", "--format", "npy"], "hdf5"),
        (
            ["extract", "--encoder", "toy-image", "--data", "shapes", "--set", "epochs=1"],
            "unknown key",
        ),
        (["train-adapter"], "lightalign extract"),
        (["train-adapter", "--fusion", "cross"], "cross_attn"),
        (["retrieve"], "lightalign train-adapter"),
        (["retrieve", "--k", "0"], "--k must be from 1 to"),
        *(
            (["retrieve", "--qb-sharpness", given], "must be above 0 and at most 1,000, found")
            for given in ("0", "1e9", "nan")
        ),
        (["train-adapter", "--seed", "-1"], "--seed must be from 0 to"),
        (["train-adapter", "--seed", str(2**63)], "--seed must be from 0 to"),
        (["fine-tune", "--data", "shapes", "--seed", str(2**63)], "--seed must be from 0 to"),
        (["probe", "--data", "shapes", "--seed", str(2**63)], "--seed must be from 0 to"),
        (["rank-encoders", "--seed", str(2**63)], "--seed must be from 0 to"),
        (
            ["train-adapter", "--set", "epochs=5"],
            "unknown key 'epochs'; did you mean train.epochs?",
        ),
        (["train-adapter", "--data", "shapes=/tmp"], "read from no path"),
        (["quickstart", "--set", "source=5"], "source.NAME=VALUE only"),
        (["quickstart", "--set", "train.epochs=1"], "unknown key 'train'; known: ['source.NAME']"),
        (["cache", "info", "nothing"], "no store is called 'nothing'"),
        (["cache", "rm", "nothing"], "no store is called 'nothing'"),
        (["cache", "explain", "nothing"], "no store is called 'nothing'"),
        (["cache", "export", "nothing", "out", "--format", "csv"], "safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    result = lightalign(*arguments, home=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("lightalign: ")]
    assert len(lines) == 1
    assert result.stderr.splitlines()[-1] == lines[0]
    assert message in lines[0]
    assert "Traceback" not in result.stderr


def test_a_home_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    command = ["extract", "--encoder", "toy-image", "--data", "shapes", *SETS]
    result = lightalign(*command, home=tmp_path / "file")
    assert result.returncode == 2
    assert result.stderr == f"lightalign: --home {tmp_path / 'file'} is not a folder\n"
    assert "Traceback" not in result.stderr


def test_a_tilde_in_the_home_is_the_users_folder(tmp_path):
    result = in_new_process("cache", "ls", home=Path("~/x"), HOME=str(tmp_path))
    assert f"no feature stores in {tmp_path / 'x' / 'features'}" in result.stdout


def test_a_damaged_complete_store_is_written_again(tmp_path):
    command = ["extract", "--encoder", "toy-image", "--data", "shapes", *SETS, "--split", "val"]
    lightalign(*command, home=tmp_path)
    whole = tree_bytes(tmp_path)
    victim = next(path for path in tmp_path.rglob("c/0/0/0"))
    victim.write_bytes(victim.read_bytes()[:-1])
    done = lightalign(*command, "--json", home=tmp_path)
    (split,) = json.loads(done.stdout)["stores"]
    assert split["encoded"] == SCENES["val"]
    assert tree_bytes(tmp_path) == whole


def test_verify_reads_manifests_and_the_files_between_the_shards(tmp_path):
    command = ["extract", "--encoder", "toy-image", "--data", "shapes", *SETS]
    lightalign(*command, home=tmp_path)
    manifest = next(tmp_path.glob("features/shapes/val/*/manifest.json"))
    group = next(tmp_path.glob("features/shapes/test/*/zarr.json"))
    manifest.write_text("{")
    group.write_text("{}")
    verified = lightalign("cache", "verify", home=tmp_path)
    assert verified.returncode == 1
    assert str(manifest) in verified.stdout
    assert f"{group}: differs" in verified.stdout


def test_an_unknown_option_is_a_usage_error(tmp_path):
    result = lightalign("extract", "--encodr", "x", home=tmp_path)
    assert result.returncode == 2
    assert "--encodr" in result.stderr


STOPPED = ["extract", "--encoder", "toy-image", "--data", "shapes", "--split", "train"]
STOPPED += [*SETS, "--batch-size", "2", "--set", "rows_per_shard=4"]


PAUSING = """
import sys, time
from pathlib import Path
from lightalign.featcache.encoders.backends.toy import ToyEncoder

home, encode, batches = Path(sys.argv[-1]), ToyEncoder.encode, []
def pausing(self, batch):
    if any(home.rglob("manifest.json")):  # what is encoded before belongs to no shard
        batches.append(len(batch))
    if len(batches) == 4:
        print("in the fourth batch", file=sys.stderr, flush=True)
        time.sleep(60)  # until the signal
    return encode(self, batch)
ToyEncoder.encode = pausing
sys.argv = ["lightalign", *sys.argv[1:]]
from lightalign.cli import main
main()
"""


def test_a_stopped_extraction_says_so_and_goes_on(tmp_path):
    """The signal comes in the fourth batch, past the first shard of two."""
    command = [*STOPPED, "--home", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", PAUSING, *command], stderr=subprocess.PIPE, text=True, cwd="/"
    ) as running:
        assert running.stderr is not None
        assert any(line == "in the fourth batch\n" for line in running.stderr)
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130
    assert "run the same command to go on" in rest
    it_goes_on(tmp_path)


def test_a_terminated_extraction_says_so_and_goes_on(tmp_path, monkeypatch):
    from lightalign.featcache.encoders.backends.toy import ToyEncoder

    encode, batches = ToyEncoder.encode, []

    def interrupted(self, batch):
        if any(tmp_path.rglob("manifest.json")):  # what is encoded before belongs to no shard
            batches.append(len(batch))
        if len(batches) == 4:
            signal.raise_signal(signal.SIGTERM)
        return encode(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ToyEncoder, "encode", interrupted)
        stopped = lightalign(*STOPPED, home=tmp_path)
    assert stopped.returncode == 143
    assert "run the same command to go on" in stopped.stderr
    it_goes_on(tmp_path)


def it_goes_on(home):
    listed = json.loads(lightalign("cache", "ls", "--json", home=home).stdout)["stores"]
    assert listed[0]["state"] == "incomplete"
    assert 0 < listed[0]["rows"] < SCENES["train"]
    done = lightalign(*STOPPED, "--json", home=home)
    (split,) = json.loads(done.stdout)["stores"]
    assert split["rows"] == SCENES["train"]
    assert split["encoded"] == SCENES["train"] - listed[0]["rows"]


def test_the_version_is_printed(tmp_path):
    import lightalign as package

    assert lightalign("--version", home=tmp_path).stdout == f"lightalign {package.__version__}\n"


@contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(("container", "limit"), [("zarr", 1024), ("zarr", 8192), ("hdf5", 8192)])
def test_a_write_that_the_system_refuses_is_one_line_and_the_store_goes_on(
    tmp_path, container, limit
):
    """A limit on the size of a file fails like a full disk: first for the pairs, then shards.

    24 rows of 16 x 16 float16 are 12 KB; pairs of 120 texts are 7 KB.
    """
    command = ["extract", "--encoder", "toy-image", "--data", "shapes", *SETS, "--split", "train"]
    command += ["--format", container]
    lightalign(*command, home=tmp_path / "whole")
    with files_of_at_most(limit):
        refused = lightalign(*command, home=tmp_path / "cut")
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "cut").rglob(".tmp-*"))
    assert lightalign(*command, home=tmp_path / "cut").returncode == 0
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("closed", [*slow(">&-"), "<&- >&- 2>&-"])
def test_closed_streams_are_for_nobody(tmp_path, closed):
    """The shards are whole: nothing was printed into a file that took a stream's number."""
    command = [sys.executable, "-m", "lightalign", *STOPPED, "--home", str(tmp_path)]
    done = subprocess.run(f"{shlex.join(command)} {closed}", shell=True, check=False, cwd="/")
    assert done.returncode == 0
    assert lightalign("cache", "verify", home=tmp_path).returncode == 0
