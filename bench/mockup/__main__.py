"""`make mockup`: each dashboard as a page and, where Chromium is on the PATH, as a picture."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agent.errors import StoreError
from bench.mockup.asking import View, chosen_at, length_of
from bench.mockup.fields import Json
from bench.mockup.fleet import Fleet, fleets
from bench.mockup.known import StrangeError
from bench.mockup.look import LOOKS
from bench.mockup.page import WIDTH, Page, page
from dashboards.build import RULES, files
from dashboards.outline import Config

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PICTURE_SECONDS = 120


def main() -> int:
    """Draw all dashboards, or those that are named."""
    boards = {
        name.removesuffix(".json"): json.loads(text)
        for name, text in files(Config()).items()
        if name != RULES
    }
    parser = argparse.ArgumentParser(prog="python -m bench.mockup", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--board", choices=sorted(boards), action="append", help="only this one; may be repeated"
    )
    parser.add_argument("--theme", choices=sorted(LOOKS), default="dark")
    parser.add_argument(
        "--choose", metavar="VARIABLE=VALUE", type=_pair, action="append", default=[], help="instead of All"
    )
    parser.add_argument(
        "--descriptions", action="store_true", help="show what each panel says of itself, in its room"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.board or list(boards)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        with fleets(names) as found:
            for name in names:
                drawn = draw(boards[name], found[name], options)
                path = options.out / f"{name}.html"
                path.write_text(drawn.html, encoding="utf-8")
                if browser:
                    picture(browser, path, drawn.height)
                print(f"{path}{f' and {path.stem}.png' if browser else ''}")
                for remark in drawn.remarks:
                    print(f"  {remark}")
    except (StrangeError, StoreError, ValueError) as error:
        print(f"mockup: {error}", file=sys.stderr)
        return 1
    return 0


def draw(board: Json, fleet: Fleet, options: argparse.Namespace) -> Page:
    """Draw one dashboard at the end of what its fleet told."""
    length_ms = length_of(board["time"]["from"])
    view = View(
        source=fleet.store,
        chosen=chosen_at(board, fleet.store, fleet.at_ms, {**fleet.wanted, **dict(options.choose)}),
        from_ms=fleet.at_ms - length_ms,
        until_ms=fleet.at_ms,
    )
    return page(board, view, LOOKS[options.theme], descriptions=options.descriptions)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def picture(browser: str, path: Path, height: int) -> None:
    """Take a picture of the whole page beside it."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{height}", f"--screenshot={path.with_suffix('.png')}"]
        subprocess.run(
            [*command, path.resolve().as_uri()], check=True, capture_output=True, timeout=_PICTURE_SECONDS
        )


if __name__ == "__main__":
    raise SystemExit(main())
