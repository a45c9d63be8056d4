"""`attnbench report --format html` in a real browser: sorted, filtered and opened with the mouse.

$ATTNBENCH names the binary; a Chromium or Chrome drives the page. Without either the test is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

import synthetic_rows as synthetic  # noqa: E402

BINARY = os.environ.get("ATTNBENCH", "")
BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                if (found := shutil.which(name))), "")
PATIENCE_S = 60
SHAPE = {"B": 1, "H": 2, "H_kv": 2, "M": 64, "N": 128, "D": 64}
NASTY = "</script><b id=injected>& \"quotes\" 'and' {{rows}}"


class Browser:
    """One headless tab, spoken to over a pair of pipes: JSON messages that end with a zero byte."""

    def __init__(self, page: Path, folder: Path) -> None:
        to_read, self.write_end = os.pipe()
        self.read_end, to_write = os.pipe()

        def take_pipes() -> None:  # the browser reads 3 and writes 4
            ends = os.dup(to_read), os.dup(to_write)
            for end, number in zip(ends, (3, 4), strict=True):
                os.dup2(end, number)

        # No sandbox: it needs rights that a container lacks, and the page is our own.
        self.process = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--remote-debugging-pipe", f"--user-data-dir={folder}", "--window-size=1400,2000"],
            preexec_fn=take_pipes, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session: str | None = None
        target = self.call("Target.createTarget", url=page.as_uri())["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        self.wait_for("document.readyState === 'complete' && document.querySelector('tr.cell')")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read_end)
        os.close(self.write_end)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                if not (chunk := os.read(self.read_end, 1 << 16)):
                    raise RuntimeError("the browser has ended")
                self.buffer += chunk
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"!!({condition})"):
            if time.monotonic() > deadline:
                raise TimeoutError(condition)
            time.sleep(0.05)

    def click(self, element: str) -> None:
        """A press and a release of the mouse in the middle of what this expression finds."""
        x, y = self.evaluate(f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}});"
                             "const r = e.getBoundingClientRect();"
                             "return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def texts(self, selector: str) -> list[str]:
        found = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")
        return list(found)


class Page(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.cells = [synthetic.cell(backend, "bench", "readme", SHAPE | {"M": size},
                                     median_ns=1e5 * size / speed)
                      for size in (64, 128, 256) for backend, speed in (("slow_one", 1), ("quick", 3))]
        self.cells.append(synthetic.cell("quick", "bench", "readme", SHAPE | {"M": 512},
                                         status="OOM") | {"reason": NASTY})
        (self.root / "rows.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in (synthetic.run(), *self.cells)))
        self.page = self.root / "page.html"
        with self.page.open("w") as out:
            subprocess.run([BINARY, "report", "rows.jsonl", "--format", "html"], cwd=self.root,
                           stdout=out, check=True, timeout=60)

    def test_the_page_needs_nothing_else(self) -> None:
        page = self.page.read_text()
        self.assertEqual(re.findall(r"(?:src|href)\s*=|@import|url\(|fetch\(", page), [])
        self.assertEqual(page.count("</script>"), 2, "no row can end the data")

    def test_sorted_filtered_and_opened_with_the_mouse(self) -> None:
        browser = Browser(self.page, self.root / "profile")
        self.addCleanup(browser.close)
        medians = "tr.cell td:nth-child(6)"
        header = "document.querySelectorAll('#cells th')[5]"
        written = [f"{cell['time']['cold']['median'] * 1e-6:.4f}" if cell["time"] else ""
                   for cell in self.cells]
        self.assertEqual(browser.texts(medians), written, "in the order of the rows")
        timed = sorted(filter(None, written), key=float)
        self.assertNotEqual(written[:-1], timed)
        browser.click(header)
        self.assertEqual(browser.texts(medians), [*timed, ""], "ascending, what has no time last")
        self.assertEqual(browser.evaluate(f"{header}.getAttribute('aria-sort')"), "ascending")
        browser.click(header)
        self.assertEqual(browser.texts(medians), [*reversed(timed), ""])

        browser.click("document.getElementById('filter')")
        browser.call("Input.insertText", text="quick OOM")
        self.assertEqual(browser.texts("tr.cell td:nth-child(5)"), ["OOM"])
        browser.click("document.querySelector('tr.cell')")
        (shown,) = browser.texts("tr.details")
        self.assertIn(NASTY, shown, "a reason is text and no markup")
        self.assertIsNone(browser.evaluate("document.getElementById('injected')"))

        browser.evaluate("document.getElementById('filter').value = 'slow_one m256'; show()")
        browser.click("document.querySelector('tr.cell')")
        (shown,) = browser.texts("tr.details")
        for part in ("attnbench bench colreduce", "60 samples", synthetic.run()["device"]["name"]):
            self.assertIn(part, shown)
        self.assertEqual(browser.evaluate(
            "document.querySelectorAll('svg.samples')[0].querySelectorAll('circle').length"), 60)
        browser.click("document.querySelector('tr.cell')")
        self.assertEqual(browser.texts("tr.details"), [])

        marks = "document.querySelectorAll('svg.times circle[stroke]').length"
        self.assertEqual(browser.evaluate(marks), 6, "a mark for every time")
        self.assertIn("OOM", " ".join(browser.texts("svg.times title")))
        self.assertEqual(browser.evaluate("performance.getEntriesByType('resource').length"), 0)


if __name__ == "__main__":
    if not BINARY or not BROWSER:
        print("SKIPPED: " + ("no Chromium or Chrome was found" if BINARY else
                             "$ATTNBENCH does not name the program"))
        sys.exit(77)
    unittest.main()
