"""What may be followed, and which of a remote's refs that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergescale.gitops.git.revisions import Chosen, Followed, Kind, newest, revision
from mergescale.kernel.errors import Invalid

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40


def tags(*names: str) -> dict[str, str]:
    """Return a listing in which each tag names another commit."""
    return {f"refs/tags/{name}": f"{at:040x}" for at, name in enumerate(names, 1)}


@pytest.mark.parametrize(
    ("wanted", "names", "chosen"),
    [
        (">=1.2 <2", ["v1.1.9", "v1.2.0", "v1.10.0", "v1.9.0", "v2.0.0"], "v1.10.0"),
        ("1.x", ["1.0.0", "1.4.2", "2.0.0"], "1.4.2"),
        ("~1.4", ["v1.4.0", "v1.4.11", "v1.5.0"], "v1.4.11"),
        ("^1.2", ["v1.2.0", "v1.9.9", "v2.0.0", "v1.10.0-rc.1"], "v1.9.9"),
        (">=1.0.0", ["v1.0.0", "v1.1.0-rc.1"], "v1.0.0"),
        (">=1.1.0-rc.1", ["v1.0.0", "v1.1.0-rc.1", "v1.1.0-rc.2"], "v1.1.0-rc.2"),
        ("*", ["latest", "v1", "v1.2", "release/1.2.3", "v01.2.3", "V1.2.3", "v3.0.0"], "v3.0.0"),
        ("1.x", ["v1.0.0+a", "v1.0.0+b", "1.0.0"], "v1.0.0+b"),
        ("1.x", ["v2.0.0", "main"], None),
    ],
)
def test_the_newest_version_in_the_range_is_chosen(
    wanted: str, names: list[str], chosen: str | None
) -> None:
    """By the order of versions, not of texts; the order of the listing does not matter."""
    expected = None if chosen is None else f"refs/tags/{chosen}"
    assert newest(wanted, tags(*names)) == expected
    assert newest(wanted, tags(*reversed(names))) == expected


def test_versions_of_branches_and_of_odd_names_do_not_count() -> None:
    """What is handed to git as a ref is a name that it accepts."""
    listing = {"refs/heads/v1.5.0": ONE, "refs/tags/v1.0.0-;x": TWO, "refs/tags/v1.0.0": THREE}
    assert newest("1.x", listing) == "refs/tags/v1.0.0"


def test_annotated_tags_are_peeled() -> None:
    """The commit is known before anything is fetched; the tag is what is fetched."""
    listing = {"refs/tags/v1.0.0": ONE, "refs/tags/v1.0.0^{}": TWO, "refs/tags/v2.0.0": THREE}
    expected = Chosen("refs/tags/v1.0.0", TWO, "v1.0.0")
    assert Followed.parse(tag="v1.0.0").choose(listing) == expected
    assert Followed.parse(semver="1.x").choose(listing) == expected
    light = Chosen("refs/tags/v2.0.0", THREE, "v2.0.0")
    assert Followed.parse(tag="v2.0.0").choose(listing) == light


def test_only_the_very_ref_counts() -> None:
    """A remote lists whatever ends in the name; a branch is not the tag of its name."""
    listing = {"refs/heads/x/refs/heads/main": ONE, "refs/tags/main": TWO}
    assert Followed.parse(branch="main").choose(listing) is None
    assert Followed.parse(branch="main").choose({**listing, "refs/heads/main": THREE}) == Chosen(
        "refs/heads/main", THREE, "main"
    )


def test_a_commit_needs_no_listing() -> None:
    """It is what it is called."""
    followed = Followed.parse(commit=ONE)
    assert (followed.patterns, followed.choose({})) == ((), Chosen(ONE, ONE, ""))


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"branch": "main", "tag": "v1"},
        {"branch": ""},
        {"tag": "-x"},
        {"tag": "v1..2"},
        {"tag": "v1:refs/heads/x"},
        {"branch": "HEAD"},
        {"branch": "+main"},
        {"branch": "refs/heads/../../config"},
        {"commit": "main"},
        {"commit": "1" * 39},
        {"commit": "A" * 40},
        {"commit": "--upload-pack=x"},
        {"semver": "latest"},
        {"semver": ">=1.2;id"},
        {"semver": " "},
        {"semver": "1" * 300},
    ],
)
def test_what_is_no_name_and_no_range_is_refused(words: dict[str, str]) -> None:
    """Before git is asked."""
    with pytest.raises(Invalid):
        Followed.parse(**words)


@given(st.text(max_size=40))
def test_whatever_is_said_is_refused_or_harmless(text: str) -> None:
    """No word becomes an option, a refspec, or a way out of refs/."""
    for kind in Kind:
        try:
            followed = Followed.parse(**{str(kind): text})
        except Invalid:
            continue
        for word in (*followed.patterns, followed.watched):
            assert not word.startswith("-")
            assert ".." not in word
            assert ":" not in word


def test_a_revision_names_the_commit_and_how_it_was_found() -> None:
    """A pinned commit was found by its name alone."""
    assert revision("main", ONE) == f"main@sha1:{ONE}"
    assert revision("", ONE) == f"sha1:{ONE}"
