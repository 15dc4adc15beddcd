from __future__ import annotations

import re
from importlib.resources import files

from mergescale.web import assets
from support.aio import aio
from support.rest import URL, served
from support.worlds import world

PEOPLE = "alice@example.com: "


@aio
async def test_the_first_page_shows_how_to_join() -> None:
    """The exact command, with this server's address."""
    async with served(world(PEOPLE)) as site:
        answer = await site.anybody.get("/")
        assert answer.status_code == 200
        assert f"<code>tailscale up --login-server={URL}</code>" in answer.text


@aio
async def test_everything_a_page_refers_to_is_served() -> None:
    """Styles, scripts and pictures have the address of their content and may be kept for ever."""
    async with served(world(PEOPLE)) as site:
        page = (await site.anybody.get("/")).text
        for asset in assets.load().values():
            answer = await site.anybody.get(asset.address)
            assert (answer.status_code, answer.content) == (200, asset.body)
            assert answer.headers["content-type"].split(";")[0] == asset.media_type
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            other = await site.anybody.get(f"/static/{asset.name}?v=older")
            assert other.headers["cache-control"] == "no-cache"
        referred = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
        assert set(referred) == {
            asset.address for asset in assets.load().values() if asset.name != "login.js"
        }


@aio
async def test_no_path_leads_out_of_the_files() -> None:
    """Only exact names are served."""
    async with served(world(PEOPLE)) as site:
        for path in (
            "..%2fpages.py",
            "%2e%2e%2fpages.py",
            "..%5cpages.py",
            "%252e%252e%252fpages.py",
            "./../pages.py",
            "mergescale.css%00",
            "mergescale.css/",
            "MERGESCALE.CSS",
            "",
            ".",
            "../templates/base.html",
            "%2fetc%2fpasswd",
            "//etc/passwd",
        ):
            answer = await site.anybody.get(f"/static/{path}")
            exact = path == "mergescale.css/"
            assert answer.status_code == (200 if exact else 404), path


def test_nothing_comes_from_elsewhere() -> None:
    """No template, style or script has an address of another host, nor code inside the markup."""
    for folder in ("templates", "static"):
        for path in files("mergescale.web").joinpath(folder).iterdir():
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|url\(|@import|src=\"//", text), path.name
            if folder == "templates":
                assert not re.search(r"<style|<script(?! src=)|\son\w+=|style=|\|safe", text), (
                    path.name
                )
