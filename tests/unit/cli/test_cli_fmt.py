"""``mergescale policy fmt``: files laid out in place, or told that they are not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended

mergescale = CommandLine()

UGLY = '{"acls":[ // who\r\n{"action":"accept"}]}'
GOOD = '{"acls": [ // who\n\t{"action": "accept"},\n]}\n'
BROKEN = '{"acls": [}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_file_is_laid_out_in_place_and_named(folder: Path) -> None:
    """A second time there is nothing to do, and nothing is written."""
    policy = written(folder / "policy.hujson", UGLY)

    assert mergescale("policy", "fmt", "policy.hujson") == Ended(0, "policy.hujson\n", "")
    assert policy.read_bytes() == GOOD.encode()
    before = policy.stat()
    assert mergescale("policy", "fmt", "policy.hujson") == Ended(0, "", "")
    assert policy.stat() == before
    assert names(folder) == ["policy.hujson"]


def test_check_lists_what_would_change_and_changes_nothing(folder: Path) -> None:
    """Exit code 1 if there is such a file, 0 if there is none."""
    policy = written(folder / "policy.hujson", UGLY)
    written(folder / "users.hujson", GOOD)

    assert mergescale("policy", "fmt", "--check") == Ended(
        1,
        "policy.hujson\n",
        "error: 1 file is not formatted\nhelp: `mergescale policy fmt` formats what it is given\n",
    )
    assert policy.read_bytes() == UGLY.encode()
    mergescale("policy", "fmt")
    assert mergescale("policy", "fmt", "--check") == Ended(0, "", "")


def test_a_folder_stands_for_the_policy_files_in_it(folder: Path) -> None:
    """Those at its top and those of policy.d, as the person would name them."""
    for name in ("b.hujson", "a.hujson", "policy.d/d.hujson", "policy.d/c.hujson"):
        written(folder / "net" / name, UGLY)
    others = [
        written(folder / "net" / name, UGLY)
        for name in ("x.json", "docs/e.hujson", "policy.d/x/f.hujson")
    ]

    told = ["net/a.hujson", "net/b.hujson", "net/policy.d/c.hujson", "net/policy.d/d.hujson"]
    assert mergescale("policy", "fmt", "net").out.splitlines() == told
    assert all((folder / name).read_text() == GOOD for name in told)
    assert [one.read_bytes() for one in others] == [UGLY.encode()] * 3


def test_a_file_named_twice_is_one(folder: Path) -> None:
    """Also if it is found in a folder that is named beside it."""
    written(folder / "net" / "policy.hujson", UGLY)
    ended = mergescale("policy", "fmt", "net/policy.hujson", "net", "net/policy.hujson")
    assert ended == Ended(0, "net/policy.hujson\n", "")


def test_standard_input_goes_to_standard_output(folder: Path) -> None:
    """The text and nothing else, in whatever form answers are asked for."""
    assert mergescale("policy", "fmt", "-", stdin=UGLY.encode()) == Ended(0, GOOD, "")
    assert mergescale("policy", "fmt", "-", stdin=GOOD.encode()) == Ended(0, GOOD, "")
    assert mergescale("policy", "fmt", "-o", "json", "-", stdin=UGLY.encode()).out == GOOD
    assert names(folder) == []


def test_standard_input_can_be_checked(folder: Path) -> None:
    """It is listed as it was named."""
    ended = mergescale("policy", "fmt", "--check", "-", stdin=UGLY.encode())
    assert (ended.code, ended.out) == (1, "-\n")
    assert mergescale("policy", "fmt", "--check", "-", stdin=GOOD.encode()) == Ended(0, "", "")


def test_what_cannot_be_read_is_shown_and_left_alone(folder: Path) -> None:
    """The others are laid out all the same; the exit code is 1."""
    broken = written(folder / "broken.hujson", BROKEN)
    good = written(folder / "good.hujson", UGLY)

    ended = mergescale("policy", "fmt", "broken.hujson", "good.hujson")

    assert (ended.code, ended.out) == (1, "good.hujson\n")
    assert ended.err == (
        'broken.hujson:1:11: error: expected a value or ], found "}"\n'
        '1 | {"acls": [}\n'
        "  |           ^\n"
        "\n"
        "error: 1 file cannot be formatted\n"
    )
    assert (broken.read_text(), good.read_text()) == (BROKEN, GOOD)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{\n"a": "\xff"}', "2:7: error: the file is not valid UTF-8 text"),
        (b'{"a": 1,\n "a": 2}', '2:2: error: key "a" is written twice'),
        (b"\xef\xbb\xbf{}", "1:1: error: the file starts with a byte order mark"),
        (b"", "1:1: error: the file is empty"),
        (b" " * ((1 << 20) + 1), "1:1048577: error: the file is larger than 1048576 bytes"),
        (
            b'{"%s": 0%s}' % (b"k" * 500_000, b',\n"k": 0,\n"l": 0'),
            "1:1: error: the formatted file would be larger than 1048576 bytes",
        ),
    ],
    ids=["bytes", "keys", "mark", "empty", "large", "growth"],
)
def test_every_error_of_a_file_leaves_it_alone(folder: Path, raw: bytes, place: str) -> None:
    """Also those that another formatter would overlook; and none of it goes to standard output."""
    (folder / "policy.hujson").write_bytes(raw)

    for name, stdin in (("policy.hujson", b""), ("-", raw)):
        ended = mergescale("policy", "fmt", name, stdin=stdin)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"{name}:{place}\n")
        assert ended.err.endswith("\nerror: 1 file cannot be formatted\n")
    assert (folder / "policy.hujson").read_bytes() == raw


def test_mode_and_link_stay(folder: Path) -> None:
    """The file behind a link is the one that is written."""
    real = written(folder / "real" / "policy.hujson", UGLY)
    real.chmod(0o640)
    link = folder / "policy.hujson"
    link.symlink_to("real/policy.hujson")

    assert mergescale("policy", "fmt").code == 0

    assert link.is_symlink()
    assert real.read_text() == GOOD
    assert real.stat().st_mode & 0o7777 == 0o640


def test_a_full_disk_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there as it was, and nothing beside it."""
    policy = written(folder / "policy.hujson", UGLY)

    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    ended = mergescale("policy", "fmt", "policy.hujson")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f'error: "{policy}" cannot be written: No space left on device\n'
    assert policy.read_bytes() == UGLY.encode()
    assert names(folder) == ["policy.hujson"]


def test_nothing_is_written_if_a_name_is_wrong(folder: Path) -> None:
    """All files are read before the first one is written."""
    policy = written(folder / "policy.hujson", UGLY)
    (folder / "empty").mkdir()

    missing = mergescale("policy", "fmt", "policy.hujson", "other.hujson")
    empty = mergescale("policy", "fmt", "policy.hujson", "empty")

    assert missing == Ended(
        1, "", 'error: "other.hujson" cannot be read: No such file or directory\n'
    )
    assert empty == Ended(
        1,
        "",
        'error: there is no policy file in "empty"\nhelp: name a folder that holds *.hujson\n',
    )
    assert policy.read_bytes() == UGLY.encode()


def test_programs_get_json(folder: Path) -> None:
    """Every file, whether it was laid out well, and what is wrong with it."""
    written(folder / "a.hujson", BROKEN)
    written(folder / "b.hujson", UGLY)
    written(folder / "c.hujson", GOOD)

    ended = mergescale("policy", "fmt", "--check", "-o", "json")

    problem = {
        "severity": "error",
        "code": "hujson.syntax",
        "message": 'expected a value or ], found "}"',
        "help": "",
        "file": "a.hujson",
        "line": 1,
        "column": 11,
        "endLine": 1,
        "endColumn": 12,
    }
    assert ended.code == 1
    assert ended.json == [
        {"file": "a.hujson", "formatted": False, "diagnostics": [problem]},
        {"file": "b.hujson", "formatted": False, "diagnostics": []},
        {"file": "c.hujson", "formatted": True, "diagnostics": []},
    ]
