"""What a scorer is fed, as it is written into files and read back."""

import io
import json

import pytest
from PIL import Image

from edgefiqa.errors import ArtifactError
from edgefiqa.preprocess import InputContract, load_tensor


def test_contract_round_trip_through_json() -> None:
    contract = InputContract(size=288)
    values = json.loads(json.dumps(contract.to_dict()))
    assert InputContract.from_dict(values) == contract
    assert InputContract.from_dict(contract.to_dict() | {"value_range": (0, 255)}) == contract
    photo = io.BytesIO()
    Image.new("RGB", (50, 34)).save(photo, "PNG")
    assert contract.shape == load_tensor(photo.getvalue(), 288).shape
    assert (values["layout"], values["dtype"], values["color"]) == ("NHWC", "uint8", "RGB")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layout": "NCHW", "dtype": "float32"}, "layout is 'NCHW'.*dtype is 'float32'"),
        ({"value_range": [0, 1]}, "value_range"),
        ({"exif_orientation": 1}, "exif_orientation"),
        ({"mean": [0.5]}, "mean is unknown"),
        ({"size": 8}, "from 16 to 4096"),
        ({"size": "288"}, "from 16 to 4096"),
    ],
)
def test_contract_refuses_what_differs(change: dict[str, object], named: str) -> None:
    with pytest.raises(ArtifactError, match=f"{named}.*export the model again"):
        InputContract.from_dict(InputContract(size=288).to_dict() | change)


@pytest.mark.parametrize("key", InputContract(size=288).to_dict())
def test_contract_refuses_missing_keys(key: str) -> None:
    values = InputContract(size=288).to_dict()
    del values[key]
    with pytest.raises(ArtifactError):
        InputContract.from_dict(values)
