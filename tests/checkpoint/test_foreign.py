"""Checkpoints of others are verified without executing anything in them."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from watchstep.checkpoint import verify
from watchstep.errors import CheckpointError

GOOD = {"fc.weight": torch.ones(4, 3), "fc.bias": torch.zeros(4)}
BAD = {**GOOD, "fc.bias": torch.tensor([0.0, math.nan, 0.0, 0.0])}


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def torch_bytes(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def sb3_zip(path: Path, policy: object, data: bytes = b"{}") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", data)
        archive.writestr("pytorch_variables.pth", torch_bytes({}))
        archive.writestr("policy.pth", torch_bytes(policy))
        archive.writestr("policy.optimizer.pth", torch_bytes({"state": {}, "param_groups": []}))
        archive.writestr("_stable_baselines3_version", "2.9.2")
    return path


def safetensors(path: Path, tensors: dict[str, torch.Tensor], **changes: Any) -> Path:
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {
            "dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets,
            **changes.get(name, {}),
        }  # fmt: skip
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_a_plain_torch_file_is_verified(tmp_path: Path) -> None:
    torch.save({"model": GOOD, "epoch": 3}, tmp_path / "good.pt")
    torch.save({"model": BAD}, tmp_path / "bad.pt")

    assert verify(tmp_path / "good.pt").tensors == 2
    with pytest.raises(CheckpointError, match=r"model\.fc\.bias is not finite \(1 elements"):
        verify(tmp_path / "bad.pt")


def test_a_lightning_checkpoint_is_verified(tmp_path: Path) -> None:
    content = {
        "epoch": 1, "global_step": 10, "pytorch-lightning_version": "2.6.6",
        "state_dict": GOOD, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}}],
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": None}},
        "hyper_parameters": {"lr": 1e-3},
    }  # fmt: skip
    torch.save(content, tmp_path / "last.ckpt")
    content["optimizer_states"] = [{"state": {0: {"exp_avg": torch.tensor(math.inf)}}}]
    torch.save(content, tmp_path / "bad.ckpt")

    assert verify(tmp_path / "last.ckpt").tensors == 3
    with pytest.raises(CheckpointError, match="optimizer_states"):
        verify(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
def test_a_file_that_would_execute_something_is_refused_and_does_not(
    tmp_path: Path, suffix: str
) -> None:
    torch.save({"model": GOOD, "extra": Bomb(tmp_path / "boom")}, tmp_path / f"x{suffix}")

    with pytest.raises(CheckpointError, match="cannot be read safely"):
        verify(tmp_path / f"x{suffix}")

    assert not (tmp_path / "boom").exists()


def test_a_stable_baselines3_zip_is_verified_and_its_pickles_left_alone(tmp_path: Path) -> None:
    bomb = json.dumps({":serialized:": pickle.dumps(Bomb(tmp_path / "boom")).hex()}).encode()
    good = sb3_zip(tmp_path / "good.zip", GOOD, data=bomb)

    assert verify(good).tensors == 2
    assert not (tmp_path / "boom").exists()
    with pytest.raises(CheckpointError, match=r"policy\.pth: fc\.bias is not finite"):
        verify(sb3_zip(tmp_path / "bad.zip", BAD))


def test_a_model_that_stable_baselines3_saved_is_verified(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "model.zip")

    assert verify(tmp_path / "model.zip").tensors > 10


def test_a_torn_zip_is_found(tmp_path: Path) -> None:
    path = sb3_zip(tmp_path / "model.zip", GOOD)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)

    with pytest.raises(CheckpointError):
        verify(path)


def test_a_flipped_bit_in_a_plain_torch_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.full((1_000,), 1.5)}, path)
    body = bytearray(path.read_bytes())
    body[body.index(torch.full((1_000,), 1.5).numpy().tobytes()) + 4] ^= 1
    path.write_bytes(body)

    with pytest.raises(CheckpointError, match="fails its checksum"):
        verify(path)


def test_a_zip_without_weights_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme", "hello")

    with pytest.raises(CheckpointError, match="without weights"):
        verify(tmp_path / "x.zip")


def test_safetensors_are_verified(tmp_path: Path) -> None:
    good = {"a": torch.ones(3), "b": torch.ones(5, dtype=torch.bfloat16), "n": torch.arange(2)}

    assert verify(safetensors(tmp_path / "a.safetensors", good)).tensors == 3
    good["b"][4] = -math.inf
    with pytest.raises(CheckpointError, match="b is not finite"):
        verify(safetensors(tmp_path / "b.safetensors", good))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F7"},
        {"shape": [4]},
        {"data_offsets": [4, 16]},
        {"data_offsets": [0, 8]},
        {"data_offsets": [-1, 11]},
        {"shape": "x"},
        {"shape": [1 << 40, 1 << 40]},
    ],
)
def test_a_wrong_safetensors_header_is_found(tmp_path: Path, change: dict[str, Any]) -> None:
    path = safetensors(tmp_path / "a.safetensors", {"a": torch.ones(3)}, a=change)

    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be read safely"):
        verify(path)


def test_every_truncated_safetensors_file_is_found(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    body = path.read_bytes()

    for length in range(len(body)):
        path.write_bytes(body[:length])
        with pytest.raises(CheckpointError):
            verify(path)


def test_a_hugging_face_folder_is_verified_and_a_missing_shard_found(tmp_path: Path) -> None:
    first = safetensors(tmp_path / "model-00001-of-00002.safetensors", {"a": torch.ones(3)})
    second = safetensors(tmp_path / "model-00002-of-00002.safetensors", {"b": torch.ones(3)})
    torch.save(Bomb(tmp_path / "boom"), tmp_path / "training_args.bin")
    torch.save({"state": {0: {"exp_avg": torch.ones(2)}}}, tmp_path / "optimizer.pt")
    torch.save({"last_epoch": 3}, tmp_path / "scheduler.pt")
    weight_map = {"a": first.name, "b": second.name}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    whole = verify(tmp_path)
    second.unlink()

    assert whole.tensors == 3
    assert not (tmp_path / "boom").exists()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        verify(tmp_path)


@pytest.mark.parametrize("name", ["empty.pt", "text.pt", "text.bin", "notes.txt"])
def test_what_is_no_checkpoint_is_told_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("" if name == "empty.pt" else "hello there")

    with pytest.raises(CheckpointError, match=name):
        verify(tmp_path / name)


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in it"):
        verify(tmp_path)


def test_the_folder_one_stands_in_is_verified_by_its_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": GOOD}, tmp_path / "good.pt")
    monkeypatch.chdir(tmp_path)

    assert verify(".").tensors == 2


def test_weights_of_a_sharded_model_without_a_tensor_are_no_weights(tmp_path: Path) -> None:
    first = safetensors(tmp_path / "model-1.safetensors", {"a": torch.ones(3)})
    torch.save({}, tmp_path / "model-2.bin")
    index = {"weight_map": {"a": first.name, "b": "model-2.bin"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match=r"model-2\.bin: holds no tensor"):
        verify(tmp_path)


def test_a_missing_library_is_no_damage_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = safetensors(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    monkeypatch.setitem(sys.modules, "safetensors", None)

    with pytest.raises(ImportError, match="safetensors"):
        verify(path)
