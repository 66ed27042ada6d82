"""The functions behind ``edgefiqa.convert(...)`` and ``edgefiqa.quantize(...)``."""

__all__: list[str] = []
