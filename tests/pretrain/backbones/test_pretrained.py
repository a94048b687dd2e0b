"""Starting from trained weights: files, URLs, folders and the hub; what does not fit is named."""

import argparse
import json
import os
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
import torchvision
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file
from timm.models import _hub
from torch.testing import assert_close

from pretrain.backbones import BackboneCard, build_backbone, export_backbone, load_pretrained, start_from
from pretrain.backbones.pretrained import FILES
from pretrain.console import UserError
from pretrain.files import sha256

ARCH = "cifar_resnet20"


def _network(classes=3, seed=0, arch=ARCH, **settings):
    torch.manual_seed(seed)
    return build_backbone(arch, classes, **settings).eval()


def _saved(path, content):
    torch.save(content, path)
    return str(path)


def _state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def _assert_started(network, given, head=("fc.weight", "fc.bias")):
    """All tensors are the given ones but the head's, which are those of a network of seed 0."""
    fresh = _network(network.num_classes).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, fresh[name] if name in head else given[name]), name


@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d"])
def test_torchvisions_files_fit(tmp_path, arch, capsys):
    torch.manual_seed(1)
    theirs = getattr(torchvision.models, arch)(weights=None).eval()
    path = _saved(tmp_path / f"{arch}-01234567.pth", theirs.state_dict())
    ours = _network(7, arch=arch)
    head = ours.fc.weight.clone()
    start_from(ours, path)
    theirs.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours.forward_head(ours.forward_features(images), pre_logits=True), theirs(images))
    assert torch.equal(ours.fc.weight, head)
    [warning] = capsys.readouterr().err.splitlines()
    assert warning == (
        f"warning: {path} has no card: its images are taken to have been normalised by mean (0.485, 0.456, 0.406) and "
        "std (0.229, 0.224, 0.225)"
    )


def _of_timms_trainer(weights):
    """A checkpoint as timm's train.py writes it: arguments and an average beside the weights."""
    other = {name: value + 1 for name, value in weights.items()}
    return {"epoch": 3, "args": argparse.Namespace(lr=0.1), "state_dict": other, "state_dict_ema": weights}


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.pth", lambda weights: weights),
        ("w.bin", lambda weights: weights),
        ("w.pth.tar", lambda weights: {"epoch": 3, "state_dict": weights, "best": 71.2}),
        ("w.pth", lambda weights: {"model": weights}),
        ("w.pth.tar", _of_timms_trainer),
        ("w.pth.tar", lambda weights: {"state_dict": {f"module.{name}": value for name, value in weights.items()}}),
        ("w.pth", lambda weights: {name: value for name, value in weights.items() if "num_batches" not in name}),
        ("w.pth", lambda weights: {name: value for name, value in weights.items() if not name.startswith("fc.")}),
    ],
    ids=["bare", "bin", "state_dict", "model", "ema", "ddp", "old", "headless"],
)
def test_files_in_their_usual_wrappings(tmp_path, name, wrap):
    given = _state(_network(11, seed=1))
    network = _network()
    start_from(network, _saved(tmp_path / name, wrap(given)))
    _assert_started(network, given)


def test_a_safetensors_file_without_a_card(tmp_path):
    given = _state(_network(11, seed=1))
    save_file(given, tmp_path / "w.safetensors")
    network = _network()
    start_from(network, str(tmp_path / "w.safetensors"))
    _assert_started(network, given)


def test_an_exported_backbone_needs_no_warning(tmp_path, capsys):
    given = _network(2, seed=1)
    export_backbone(given, BackboneCard(arch=ARCH, classes=("a", "b")), tmp_path / "w")
    network = _network()
    start_from(network, str(tmp_path / "w.safetensors"))
    _assert_started(network, given.state_dict())
    assert capsys.readouterr().err == ""


def test_tensors_that_do_not_fit_are_counted_and_named(tmp_path):
    given = _state(_network(seed=1))
    for name in ("conv1.weight", "bn1.weight", "bn1.bias", "layer3.2.bn2.weight"):
        del given[name]
    given["conv2.weight"] = torch.zeros(1)
    given["layer1.0.bn1.bias"] = torch.zeros(2, 8)
    path, network = _saved(tmp_path / "w.pth", given), _network()
    with pytest.raises(UserError) as caught:
        start_from(network, path)
    assert str(caught.value) == (
        f"{path}: not the weights of the configured backbone (tensors 4 missing: conv1.weight, bn1.weight, bn1.bias, "
        "...; 1 left over: conv2.weight; 1 of another shape: layer1.0.bn1.bias (2, 8) for (16,)); set backbone.name to "
        "its architecture"
    )
    before = _network().state_dict()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_one_tensor_of_another_shape_is_enough(tmp_path):
    given = {**_state(_network(seed=1)), "conv1.weight": torch.zeros(16, 3, 7, 7)}
    message = "(tensors 1 of another shape: conv1.weight (16, 3, 7, 7) for (16, 3, 3, 3)); set backbone.name"
    with pytest.raises(UserError, match=re.escape(message)):
        start_from(_network(), _saved(tmp_path / "w.pth", given))


@pytest.mark.parametrize(
    ("arch", "options", "tensor"),
    [
        ("test_vit", {}, "pos_embed (1, 101, 64) for (1, 17, 64)"),
        (
            "swin_tiny_patch4_window7_224",
            {"depths": (1, 1, 1, 1)},
            "layers.1.blocks.0.attn.relative_position_bias_table (169, 6) for (49, 6)",
        ),
    ],
)
def test_position_embeddings_of_another_image_size(tmp_path, arch, options, tensor):
    path = _saved(tmp_path / "w.pth", build_backbone(arch, 3, **options).state_dict())
    start_from(build_backbone(arch, 5, **options), path)
    with pytest.raises(UserError, match=re.escape(tensor)) as caught:
        start_from(build_backbone(arch, 5, img_size=64 if arch == "test_vit" else 32, **options), path)
    assert str(caught.value).startswith(f"{path}: its position embeddings are those of another image size (")


class _Harmful:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_file_that_would_run_code_is_refused_and_nothing_is_run(tmp_path):
    path = _saved(tmp_path / "w.pth", {"state_dict": {"conv1.weight": _Harmful(tmp_path / "made")}})
    with pytest.raises(UserError, match=r"w\.pth: refused, because reading it would run (posix|nt)\.mkdir; where"):
        start_from(_network(), path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", r"w\.pth: not a file of weights, or a damaged one \("),
        ([torch.zeros(1)], r"w\.pth: not a file of weights, or a damaged one \("),
        ({"net": {}, "step": 3}, r"w\.pth: holds no weights by their names, .* but net, step; save"),
        ({"state_dict": {}}, r"w\.pth: holds no weights by their names, .* but nothing; save"),
    ],
)
def test_files_that_hold_something_else(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if content == "text":
        path.write_text("no weights")
    else:
        _saved(path, content)
    with pytest.raises(UserError, match=message) as caught:
        start_from(_network(), str(path))
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"w\.safetensors: not a file of weights, or a damaged one"):
        start_from(_network(), str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match=r"absent\.pth\.tar: no such file"):
        start_from(_network(), str(tmp_path / "absent.pth.tar"))
    with pytest.raises(UserError, match=r"absent\.json: no such file"):
        start_from(_network(), str(tmp_path / "absent.safetensors"))


def test_a_frozen_network_is_not_made_of_weights_alone(tmp_path):
    save_file(_state(_network()), tmp_path / "w.safetensors")
    for source in (str(tmp_path / "w.safetensors"), "w.pth", "https://host/w.safetensors#sha256=" + 64 * "0"):
        with pytest.raises(UserError, match="weights without a card do not say which network they are of"):
            load_pretrained(source)


class _Server(ThreadingHTTPServer):
    """Files of a folder on 127.0.0.1; `asked` holds the paths that were asked for."""

    def __init__(self, folder):
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_):
                asked.append(self.path)

        self.asked = asked = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    with _Server(tmp_path / "served") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def served(tmp_path, server):
    """The weights that the server has, and their digest."""
    given = _state(_network(11, seed=1))
    return given, sha256(_saved(tmp_path / "served/w.pth", given))


@pytest.fixture
def downloads(tmp_path):
    return tmp_path / "torch/hub/checkpoints"


def test_a_url_is_downloaded_once_and_verified_each_time(server, served, downloads):
    given, digest = served
    for _ in range(2):
        network = _network()
        start_from(network, f"{server.url('w.pth')}#sha256={digest.upper()}")
        _assert_started(network, given)
    assert server.asked == ["/w.pth"]
    [file] = downloads.iterdir()
    assert file.name == f"{digest[:8]}-w.pth"
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"w.pth: its SHA-256 is {sha256(file)}, not {digest}; delete it"):
        start_from(_network(), f"{server.url('w.pth')}#sha256={digest}")


def test_torch_hubs_own_files_are_found(tmp_path, server, served, downloads):
    given, digest = served
    downloads.mkdir(parents=True)
    shutil.copy(tmp_path / "served/w.pth", downloads / f"w-{digest[:8]}.pth")
    network = _network()
    start_from(network, f"{server.url(f'old/w-{digest[:8]}.pth')}#sha256={digest}")
    _assert_started(network, given)
    assert server.asked == []


def test_a_download_of_another_digest_is_not_kept(server, served, downloads):
    _, digest = served
    stated = digest[::-1]
    with pytest.raises(UserError, match=f"/w.pth: the SHA-256 of what came is {digest}, not {stated}; check the two"):
        start_from(_network(), f"{server.url('w.pth')}#sha256={stated}")
    assert list(downloads.iterdir()) == []


def test_a_download_that_fails_leaves_nothing(server, downloads):
    with pytest.raises(UserError, match=r"/absent.pth: cannot be downloaded \(HTTP Error 404: .*\); fetch it where"):
        start_from(_network(), f"{server.url('absent.pth')}#sha256={64 * '0'}")
    assert list(downloads.iterdir()) == []


@pytest.mark.parametrize("fragment", ["", "#sha256=", "#sha256=0123abcd", "#md5=" + 32 * "0", "#sha256=" + 64 * "g"])
def test_a_url_without_its_digest_is_refused(server, served, fragment):
    remedy = f"write {server.url('w.pth')}#sha256=HEX, the 64 hexadecimal digits of the file's SHA-256"
    with pytest.raises(UserError, match=remedy):
        start_from(_network(), server.url("w.pth") + fragment)
    assert server.asked == []


def test_a_url_of_no_file_of_weights_is_refused(server):
    with pytest.raises(UserError, match="a URL of weights has to end in a file name, .safetensors or .pth or"):
        start_from(_network(), f"{server.url('w.zip')}#sha256={64 * '0'}")


HUB_ARCH = "test_efficientnet"


@pytest.fixture
def folder(tmp_path):
    """A network as timm saves it for the hub."""
    network = _network(4, seed=1, arch=HUB_ARCH)
    _hub.save_for_hf(network, tmp_path / "saved", safe_serialization=True)
    return network, tmp_path / "saved"


def _assert_same_body(network, given):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.forward_features(images), given.forward_features(images))


def test_a_folder_as_timm_saves_it(folder):
    given, path = folder
    frozen = load_pretrained(f"local-dir:{path}")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(frozen(images), given(images))
    assert not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    network = _network(9, arch=HUB_ARCH)
    head = network.classifier.weight.clone()
    start_from(network, f"local-dir:{path}")
    _assert_same_body(network, given)
    assert torch.equal(network.classifier.weight, head)


def test_the_hub(folder, monkeypatch):
    """The download itself is replaced by a folder that holds what it would bring."""
    given, path = folder
    asked = []

    def download(repo_id, filename, revision=None, cache_dir=None):
        asked.append((repo_id, filename, revision))
        if not (path / filename).exists():
            raise EntryNotFoundError(filename)
        return str(path / filename)

    monkeypatch.setattr(_hub, "hf_hub_download", download)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(load_pretrained("hf-hub:org/model@v2")(images), given(images))
    assert asked == [("org/model", "config.json", "v2"), ("org/model", "model.safetensors", "v2")]
    network = _network(9, arch=HUB_ARCH)
    start_from(network, "hf-hub:org/model")
    _assert_same_body(network, given)
    (path / "config.json").unlink()
    with pytest.raises(UserError, match=r"hf-hub:org/model: its weights cannot be downloaded \(config.json\)"):
        load_pretrained("hf-hub:org/model")


def test_a_folder_of_another_normalisation(tmp_path):
    network = _network(4, arch="test_resnet")  # timm normalises its images by 0.5
    _hub.save_for_hf(network, tmp_path, safe_serialization=True)
    with pytest.raises(UserError, match=r"it wants images normalised by mean [\[(]0.5, 0.5, 0.5.* not ImageNet"):
        start_from(network, f"local-dir:{tmp_path}")


def test_folders_that_cannot_be_loaded(folder):
    _, path = folder
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "architecture": "test_efficientnets"}))
    with pytest.raises(UserError, match=r"saved: timm cannot load it \(Unknown model \(test_efficientnets\)\)"):
        load_pretrained(f"local-dir:{path}")
    (path / "config.json").write_text(json.dumps({**config, "architecture": "test_efficientnet_gn"}))
    with pytest.raises(UserError, match=r"saved: timm cannot load it \(Error\(s\) in loading .*: Unexpected key\(s\)"):
        load_pretrained(f"local-dir:{path}")
    (path / "model.safetensors").unlink()
    _saved(path / "pytorch_model.bin", {"classifier.weight": _Harmful(path / "made")})
    with pytest.raises(UserError, match=r"saved: timm cannot load it \(weights_only=True blocked .* (posix|nt)\.mkdir"):
        load_pretrained(f"local-dir:{path}")
    assert not (path / "made").exists()
    with pytest.raises(UserError, match=r"none: timm cannot read it \(Config file not found.* it needs config.json"):
        load_pretrained(f"local-dir:{path / 'none'}")


def test_sources_of_no_kind_are_named():
    with pytest.raises(UserError, match=r"'timm/resnet18' is neither .* nor a model for timm \(hf-hub:..., local-dir:"):
        load_pretrained("timm/resnet18")


def test_no_network_of_timm_is_named_like_a_file():
    assert not [name for name in timm.list_pretrained() if name.endswith(FILES)]
