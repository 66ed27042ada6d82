"""Architectures, their published figures, weights files and published checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from tests.models import save_lively
from torch import nn

from edgefiqa.errors import CheckpointError, UnknownNameError, UsageError
from edgefiqa.models import (
    MODELS,
    build,
    default_model_dir,
    import_checkpoint,
    load_model,
    measure_cost,
)

State = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("name", "size", "parameters", "gflops"),
    [
        ("efficient-fiqa-student", 288, 1_179_641, 0.3313),
        ("efficient-fiqa-student", 336, 1_179_641, 0.4442),
        ("efficient-fiqa-student", 352, 1_179_641, 0.4949),
        ("mspt", 640, 1_518_881, 0.4687),
    ],
)
def test_published_figures(name: str, size: int, parameters: int, gflops: float) -> None:
    cost = measure_cost(build(name), size)
    assert cost.parameters == parameters
    assert cost.gflops == pytest.approx(gflops, abs=1e-4)


def test_teacher_has_the_published_size() -> None:
    parameters = sum(p.numel() for p in build("efficient-fiqa-teacher").parameters())
    assert parameters / 1e6 == pytest.approx(86.87, abs=0.005)


@pytest.mark.parametrize("name", [*MODELS.names(), "timm:resnet18", "timm:vit_tiny_patch16_224"])
def test_every_model_maps_images_to_scores(name: str) -> None:
    model = build(name).eval()
    with torch.inference_mode():
        scores = model(torch.randn(2, 3, 224, 224))
    assert scores.shape == (2,)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="efficient-fiqa-student"):
        build("efficient-fiqa-studnet")
    with pytest.raises(UnknownNameError, match="timm"):
        build("timm:no_such_backbone")


def plain_student() -> nn.Module:
    """The student as its public code builds it: timm features, pool, two Linear layers."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_extraction = timm.create_model("edgenext_xx_small", num_classes=0)
            self.feature_extraction.head = nn.Identity()
            self.quality = nn.Sequential(nn.Linear(168, 128), nn.Linear(128, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = self.feature_extraction.forward_features(x)
            scores: torch.Tensor = self.quality(maps.mean((2, 3)))
            return scores

    return Plain()


def plain_teacher() -> nn.Module:
    """The teacher likewise: torchvision's Swin-B two levels deep."""

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_extraction = torchvision.models.swin_b()
            self.feature_extraction.head = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.feature_extraction(x)
            return features

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_extraction = Features()
            self.quality = nn.Sequential(nn.Linear(1024, 128), nn.Linear(128, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.quality(self.feature_extraction(x))
            return scores

    return Plain()


def shake(model: nn.Module) -> nn.Module:
    """Move every parameter, so that a layer left at its initial value shows."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def prefixed(state: State) -> State:
    return {f"module.{key}": value for key, value in state.items()}


CONTAINERS: dict[str, Callable[[State], object]] = {
    "plain": lambda state: state,
    "model_state_dict": lambda state: {"model_state_dict": state, "epoch": 3},
    "data_parallel": prefixed,
    "both": lambda state: {"model_state_dict": prefixed(state)},
}


@pytest.mark.parametrize(
    ("name", "make", "size", "container"),
    [
        *(("efficient-fiqa-student", plain_student, 288, container) for container in CONTAINERS),
        ("efficient-fiqa-teacher", plain_teacher, 224, "both"),
    ],
)
def test_published_checkpoints_give_the_same_scores(
    tmp_path: Path, name: str, make: Callable[[], nn.Module], size: int, container: str
) -> None:
    plain = shake(make())
    file = tmp_path / "published.pt"
    torch.save(CONTAINERS[container](plain.state_dict()), file)
    card = import_checkpoint(file, model_name=name, size=size, out=tmp_path / "out")
    assert (card.model, card.size) == (name, size)
    model, loaded = load_model(tmp_path / "out")
    assert loaded == card
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), plain(images)[:, 0], rtol=0, atol=1e-6)


class Evil:
    """A pickle that would run code when it is opened."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("edgefiqa-evil-was-run"),))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read|no torch checkpoint"),
        (b"not a checkpoint at all", "no torch checkpoint|cannot be read"),
        ({"weights": Evil()}, "more than tensors"),
        ([1, 2, 3], "no state dict"),
        ({"epoch": 3, "lr": 0.1}, "no tensors"),
        ({}, "no state dict"),
    ],
)
def test_bad_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bad.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=reason) as caught:
        import_checkpoint(file, model_name="efficient-fiqa-student", size=None, out=tmp_path / "o")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "edgefiqa-evil-was-run").exists()


def test_checkpoint_of_another_architecture_names_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save(plain_student().state_dict(), file)
    with pytest.raises(CheckpointError, match=r"mspt.*missing keys.*unexpected keys"):
        import_checkpoint(file, model_name="mspt", size=None, out=tmp_path / "o")
    wrong = plain_student().state_dict()
    wrong["quality.0.weight"] = torch.zeros(64, 168)
    del wrong["quality.1.bias"]
    wrong["quality.1.weight"][0, 0] = torch.nan
    torch.save(wrong, file)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(file, model_name="efficient-fiqa-student", size=None, out=tmp_path / "o")
    for fault in ("1 missing keys: head.1.bias", "[64, 168], not [128, 168]", "NaN"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, 15, 5000])
def test_sizes_out_of_range(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError):
        import_checkpoint(
            tmp_path / "x.pt", model_name="efficient-fiqa-student", size=size, out=tmp_path
        )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_lively("efficient-fiqa-student", 288, tmp_path / "model")
    return tmp_path / "model"


def test_saved_models_load_from_directory_and_file(saved: Path) -> None:
    for source in (saved, saved / "model.safetensors"):
        model, card = load_model(source)
        assert card.name == "lively"
        assert not model.training


def test_changed_weights_are_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not the ones their card describes"):
        load_model(saved)


def test_damaged_cards_are_refused(saved: Path) -> None:
    card = saved / "card.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "surprise": 1, "size": "large"}))
    with pytest.raises(CheckpointError, match="surprise") as caught:
        load_model(saved)
    assert "size" in str(caught.value)
    card.unlink()
    with pytest.raises(CheckpointError, match="no model card"):
        load_model(saved)


def test_default_student_loads_and_says_what_it_is() -> None:
    model, card = load_model("default")
    assert card.model == "efficient-fiqa-student"
    assert card.size == 288
    assert sum(p.numel() for p in model.parameters()) == 1_179_641
    assert "MEBeauty" in card.training_data
    assert all("n" in entry for entry in card.metrics)
    assert (default_model_dir() / "model.safetensors").stat().st_size < 5_000_000
