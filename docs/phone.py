"""Looks at every page of the built site in a browser as wide as a phone.

`python docs/phone.py docs/_build/html` prints, and exits with 1 for, pages that are wider than the
screen and what sticks out of it; and counts the tables that have to be scrolled in their frames.
It needs a Chromium: `apt-get install chromium`.
"""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

WIDTH = 390
"""In CSS pixels: the phones that most people have."""

LOOK = """<!doctype html><pre id="found">not yet</pre><script>
const pages = PAGES, width = WIDTH, found = {};
function scroller(e, stop) {  // does something around it scroll?
  for (e = e.parentElement; e && e !== stop; e = e.parentElement)
    if (/auto|scroll|hidden|clip/.test(e.ownerDocument.defaultView.getComputedStyle(e).overflowX))
      return true;
  return false;
}
function look(frame) {
  const doc = frame.contentDocument, main = doc.querySelector("[role=main]") || doc.body;
  const out = [...main.querySelectorAll("*")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > width + 1 || box.left < -1) && !scroller(e, main);
  });
  const tables = [...main.querySelectorAll(".table-wrapper")];
  const scrolled = tables.filter(t => t.scrollWidth > t.clientWidth + 1);
  return {
    wide: Math.max(doc.documentElement.scrollWidth, doc.body.scrollWidth),
    out: out.slice(0, 5).map(e => e.outerHTML.slice(0, 120)),
    tables: tables.length,
    scrolled: scrolled.map(t => t.querySelector("tr").children.length),
    by: Math.max(0, ...tables.map(t => t.scrollWidth - t.clientWidth)),
  };
}
async function all() {
  for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 800px; border: 0`;
    await new Promise(done => {
      Object.assign(frame, {onload: done, src: page});
      document.body.append(frame);
    });
    found[page] = look(frame);
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
}
all();
</script>"""


def browser() -> str | None:
    """Where a Chromium is, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def looked_at(site: Path, width: int = WIDTH) -> dict[str, Any]:
    """For each page: its width, what sticks out, its tables, the columns of those that scroll."""
    every = sorted(str(p.relative_to(site)) for p in site.rglob("*.html"))
    pages = [p for p in every if not p.startswith("_")]  # not the sources that viewcode shows
    look = LOOK.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(width))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/look":
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(look.encode())

        def log_message(self, *said: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as profile:
            command = [
                *(browser() or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={profile}", "--hide-scrollbars", "--dump-dom"),
                *("--virtual-time-budget=600000", "--timeout=300000"),
                f"http://127.0.0.1:{server.server_port}/look",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
        server.shutdown()
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    if shown is None or not shown[1].startswith("{"):
        raise RuntimeError(f"the browser did not look at all pages: {done.stdout[:300]}")
    found: dict[str, Any] = json.loads(html.unescape(shown[1]))
    return found


def main() -> int:
    """Look at the site in the folder given, and say what does not fit."""
    found = looked_at(Path(sys.argv[1]))
    bad = {page: x for page, x in found.items() if x["wide"] > WIDTH or x["out"]}
    for page, x in bad.items():
        print(f"{page}: {x['wide']} wide", *x["out"], sep="\n  ")
    scrolled = {page: x for page, x in found.items() if x["scrolled"]}
    for page, x in sorted(scrolled.items(), key=lambda item: -item[1]["by"]):
        columns = ", ".join(map(str, x["scrolled"]))
        print(f"{page}: of {x['tables']} tables those of {columns} columns scroll, by {x['by']}")
    print(f"{len(found)} pages at {WIDTH}: {len(bad)} do not fit")
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
