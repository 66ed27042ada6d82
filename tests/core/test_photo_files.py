"""Files, folders and patterns that users name."""

from pathlib import Path

import pytest

from edgefiqa.errors import UsageError
from edgefiqa.photo_files import IMAGE_SUFFIXES, find_photos


@pytest.fixture
def album(tmp_path: Path) -> Path:
    names = ("b.JPG", "a.png", "notes.txt", "sub/c.webp", "sub/deep/d.heic", ".hidden.png")
    for name in (*names, ".thumbs/e.png", "sub/._c.webp", "odd[1].png"):
        file = tmp_path / "album" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "album" / "gone.png").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    return tmp_path / "album"


def names_in(album: Path, *paths: str | Path) -> list[str]:
    return [found.relative_to(album).as_posix() for found in find_photos(paths)]


def test_folder_is_searched_in_order(album: Path) -> None:
    expected = ["a.png", "b.JPG", "gone.png", "odd[1].png", "sub/c.webp", "sub/deep/d.heic"]
    assert names_in(album, album) == expected
    assert names_in(album, str(album)) == expected


def test_patterns(album: Path) -> None:
    assert names_in(album, f"{album}/*.png") == ["a.png", "gone.png", "odd[1].png"]
    assert names_in(album, album / "**" / "*.webp") == ["sub/c.webp"]
    expected = ["a.png", "b.JPG", "gone.png", "odd[1].png", "sub/c.webp", "sub/deep/d.heic"]
    assert names_in(album, f"{album}/*") == expected


def test_explicit_files_are_kept_whatever_they_are(album: Path) -> None:
    given_paths: list[str | Path] = [
        album / "notes.txt",
        album / "missing.jpg",
        str(album / "odd[1].png"),
    ]
    assert find_photos(given_paths) == [Path(path) for path in given_paths]
    assert names_in(album, album / "b.JPG", album / "sub", album / "b.JPG") == [
        "b.JPG",
        "sub/c.webp",
        "sub/deep/d.heic",
    ]


def test_nothing_found_is_a_usage_error(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album)
    for path in (album.parent / "empty", f"{album}/*.txt", f"{album}/none-*.png"):
        with pytest.raises(UsageError, match=r"no photo in this (folder|pattern)") as caught:
            find_photos([path])
        assert str(path) in str(caught.value)
    for paths in ([], [""]):
        with pytest.raises(UsageError):
            find_photos(paths)


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES)
