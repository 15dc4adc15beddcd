"""``mergescale policy check|test``: what a person and a CI job get to see, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command_line import CommandLine, Ended

mergescale = CommandLine()

GOOD = """{
  "groups": {"group:staff": ["ana@example.com"]},
  "acls": [{"action": "accept", "src": ["group:staff"], "dst": ["10.0.0.1:80"]}],
  "tests": [
    {"src": "ana@example.com", "accept": ["10.0.0.1:80"], "deny": ["10.0.0.1:22"]},
  ],
}
"""
BAD = GOOD.replace('"src": ["group:staff"]', '"src": ["group:staf"]')
FAILING = GOOD.replace('"accept": ["10.0.0.1:80"]', '"accept": ["10.0.0.1:81"]')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str, name: str = "policy.hujson") -> None:
    (folder / name).write_text(text, "utf-8")


def test_a_good_policy_is_told_so(folder: Path) -> None:
    """One line that names what was read, and exit code 0."""
    written(folder, GOOD)
    assert mergescale("policy", "check") == Ended(0, "policy.hujson: no errors\n", "")


def test_a_mistake_is_shown_at_its_place(folder: Path) -> None:
    """File, line and column, the line itself, what is wrong and what may have been meant."""
    written(folder, BAD)
    ended = mergescale("policy", "check")
    assert ended.code == 1
    first, line, mark, *rest = ended.out.splitlines()
    assert first.startswith("policy.hujson:3:41: error: ")
    assert "group:staf" in first
    assert (
        line
        == '3 |   "acls": [{"action": "accept", "src": ["group:staf"], "dst": ["10.0.0.1:80"]}],'
    )
    assert mark == "  |" + " " * (line.index('"group:staf"') - 3) + "^" * len('"group:staf"')
    assert 'help: did you mean "group:staff"?' in rest
    assert ended.err == "error: the policy is refused: 1 error\n"


def test_the_path_is_told_as_it_was_given(folder: Path) -> None:
    """From the folder above, places can be clicked on."""
    (folder / "team").mkdir()
    written(folder / "team", BAD)
    for path in ("team", "team/policy.hujson"):
        ended = mergescale("policy", "check", path)
        assert ended.out.startswith("team/policy.hujson:3:41: error: "), path


def test_standard_input_is_a_policy() -> None:
    """An editor or a hook can check what is not saved yet."""
    assert mergescale("policy", "check", "-", stdin=GOOD.encode()).code == 0
    ended = mergescale("policy", "check", "-", stdin=BAD.encode())
    assert ended.code == 1
    assert ended.out.startswith("-:3:41: error: ")


def test_a_file_beside_the_policy_counts(folder: Path) -> None:
    """What tags.hujson declares may be used; naming any of the files means all of them."""
    written(folder, '{"acls": [{"action": "accept", "src": ["tag:web"], "dst": ["*:*"]}]}')
    assert mergescale("policy", "check").code == 1
    written(folder, '{"tags": {"tag:web": {"owners": ["ana@example.com"]}}}', "tags.hujson")
    expected = Ended(0, "policy.hujson, tags.hujson: no errors\n", "")
    for path in (".", "policy.hujson", "tags.hujson"):
        assert mergescale("policy", "check", path) == expected


def test_a_policy_of_another_name_stands_alone(folder: Path) -> None:
    """A candidate can be checked without replacing the one that is there."""
    written(folder, "broken")
    written(folder, GOOD, "candidate.hujson")
    expected = Ended(0, "candidate.hujson: no errors\n", "")
    assert mergescale("policy", "check", "candidate.hujson") == expected


def test_programs_get_the_diagnostics(folder: Path) -> None:
    """``-o json`` has the members that the API has for those of a bad commit."""
    written(folder, BAD)
    ended = mergescale("policy", "check", "-o", "json")
    [one] = ended.json
    assert {name: one[name] for name in ("severity", "file", "line", "column", "endLine")} == {
        "severity": "error",
        "file": "policy.hujson",
        "line": 3,
        "column": 41,
        "endLine": 3,
    }
    assert ended.code == 1
    written(folder, GOOD)
    assert mergescale("-o", "json", "policy", "check") == Ended(0, "[]\n", "")


def test_checking_does_not_run_the_tests(folder: Path) -> None:
    """A policy whose test fails is well formed; `policy test` is there for the rest."""
    written(folder, FAILING)
    assert mergescale("policy", "check").code == 0


def test_passing_tests_are_counted(folder: Path) -> None:
    """So that an empty list is not mistaken for a good one."""
    written(folder, GOOD)
    told = "1 of 1 rule covered by tests (100 %)\n2 expectations met\n"
    assert mergescale("policy", "test") == Ended(0, told, "")
    written(folder, '{"acls": []}')
    assert mergescale("policy", "test") == Ended(0, "the policy holds no tests\n", "")


def test_a_failing_test_has_an_exit_code_of_its_own(folder: Path) -> None:
    """3, with the place of the expectation that does not hold; 1 is for a policy that is refused."""
    written(folder, FAILING)
    ended = mergescale("policy", "test")
    assert ended.code == 3
    assert ended.out.startswith("policy.hujson:5:")
    assert "ana@example.com should reach 10.0.0.1:81" in ended.out
    assert ended.err == "error: 1 of 2 expectations failed\n"
    written(folder, BAD)
    assert mergescale("policy", "test").code == 1


def test_what_cannot_be_read_is_told(folder: Path) -> None:
    """A missing path, an empty folder, bytes that are no text: one line each."""
    assert mergescale("policy", "check", "nope") == Ended(
        1, "", 'error: "nope" does not exist\nhelp: name a folder or a policy file\n'
    )
    assert mergescale("policy", "check") == Ended(
        1,
        "",
        'error: there is no policy.hujson in "."\nhelp: name the folder that holds the policy\n',
    )
    (folder / "policy.hujson").write_bytes(b"{\n\xff}")
    ended = mergescale("policy", "check")
    assert ended == Ended(1, "", 'error: "policy.hujson" is not UTF-8: line 2\n')
