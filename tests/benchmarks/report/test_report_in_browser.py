"""The report as a browser shows it: at a phone's, a tablet's and a desk's width, light and dark."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.report.sample_run import write_sample_run

from edgefiqa.benchmarks.report.page import write_report
from edgefiqa.measuring.policy import load_policy

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
DARK = "--blink-settings=preferredColorScheme=0"
WIDTHS = (390, 768, 1200)
pytestmark = pytest.mark.slow
READABLE = 4.5  # WCAG 2 AA, normal text

# The page in frames of several widths: a separate window is never as narrow as a phone's.
MEASURE = """
function colour(text) {
  const found = text.match(/[\\d.]+/g).map(Number);
  return {rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1};
}
function luminance(rgb) {
  const [r, g, b] = rgb.map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(view, node) {
  for (let each = node; each; each = each.parentElement) {
    const found = colour(view.getComputedStyle(each).backgroundColor);
    if (found.alpha === 1) return found.rgb;
  }
  return null;
}
function contrast(view, node) {
  const style = view.getComputedStyle(node);
  const ink = luminance(colour(node.closest('svg') ? style.fill : style.color).rgb);
  const page = luminance(behind(view, node));
  return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05);
}
function overlapping(texts) {
  const found = [];
  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {
    const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 1 && high > 3) found.push(a.textContent + ' | ' + b.textContent);
  }));
  return found;
}
function measure(frame, width) {
  frame.style.width = width + 'px';
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const shown = [...page.querySelectorAll('body *')].filter(node =>
    node.checkVisibility() && node.getBoundingClientRect().width > 0 &&
    [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim()) &&
    !['STYLE', 'SCRIPT'].includes(node.tagName.toUpperCase()));
  const worst = shown.map(node => [contrast(view, node), node.textContent.slice(0, 40)]);
  const words = shown.filter(node => node.textContent.trim().length > 2);  // no exponents
  const small = words.map(node => {
    const scale = node.closest('svg')
      ? node.getBoundingClientRect().height / parseFloat(view.getComputedStyle(node).fontSize) : 1;
    return [parseFloat(view.getComputedStyle(node).fontSize) * Math.min(1, scale),
            node.textContent.slice(0, 40)];
  });
  const charts = [...page.querySelectorAll('svg[role=img]')].map(svg => {
    const box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')];
    return {label: svg.getAttribute('aria-label'), left: box.left, right: box.right,
            width: box.width, height: box.height, texts: texts.length,
            overlaps: overlapping(texts)};
  });
  return {width: view.innerWidth, scroll: root.scrollWidth, client: root.clientWidth,
    dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
    page: luminance(behind(view, page.body)), worst: worst.sort((a, b) => a[0] - b[0])[0],
    small: small.sort((a, b) => a[0] - b[0])[0], texts: shown.length,
    heads: [...page.querySelectorAll('thead')].some(each => each.checkVisibility()),
    sections: [...page.querySelectorAll('h2')].filter(each => each.checkVisibility())
      .map(each => each.textContent),
    pictures: [...page.querySelectorAll('img')].map(each => each.naturalWidth),
    charts: charts};
}
"""


def _wrapped(page: str) -> str:
    widths, escaped = list(WIDTHS), html.escape(page, quote=True)
    return f"""<!doctype html>
<meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe style="border:0;height:12000px" data-page="{escaped}"></iframe><pre id="result"></pre>
<script>{MEASURE}
const frame = document.querySelector('iframe');
frame.onload = () => {{
  document.querySelector('#result').textContent =
    JSON.stringify({widths}.map(width => measure(frame, width)));
}};
frame.srcdoc = frame.dataset.page;
</script>"""


@pytest.fixture(scope="module", params=["light", "dark"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a browser says of the report, at each width."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; scripts/install-test-tools installs it")
    folder: Path = tmp_path_factory.mktemp(request.param)
    run = write_sample_run(folder / "run")
    report = write_report(run, folder, policy=load_policy("quantised"))[0]
    (folder / "wrapped.html").write_text(_wrapped(report.read_text()))
    command = [CHROMIUM, "--headless=new", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command += ["--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    command += ["--no-sandbox"] * (os.geteuid() == 0)  # it refuses to have one as root
    command += [DARK] * (request.param == "dark")
    command += ["--window-size=1300,900", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [*command, (folder / "wrapped.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    pages = json.loads(html.unescape(found[1]))
    assert len(pages) == len(WIDTHS)
    return request.param, pages


def test_it_is_laid_out_for_the_width_and_the_colours(seen: Any) -> None:
    scheme, pages = seen
    assert [page["width"] for page in pages] == list(WIDTHS)
    for page in pages:
        assert page["dark"] is (scheme == "dark")
        assert (page["page"] < 0.05) is (scheme == "dark")
        assert page["heads"] is (page["width"] > 760)
        assert page["texts"] > 200


def test_the_page_does_not_scroll_sideways(seen: Any) -> None:
    for page in seen[1]:
        assert page["scroll"] <= page["client"] == page["width"]


def test_all_text_can_be_read(seen: Any) -> None:
    for page in seen[1]:
        ratio, text = page["worst"]
        assert ratio >= READABLE, (page["width"], text)
        size, text = page["small"]
        assert size >= 9, (page["width"], text)


def test_every_section_and_chart_is_there(seen: Any) -> None:
    for page in seen[1]:
        assert {"Summary", "Latency", "Drift", "Layers", "Slices", "Provenance"} <= set(
            page["sections"]
        )
        assert page["pictures"] == [8]
        kinds = ("Latency", "Size", "Scores", "Drift of", "Drift waterfall")
        for kind in kinds:
            assert any(chart["label"].startswith(kind) for chart in page["charts"]), kind
        for chart in page["charts"]:
            assert chart["left"] >= 0, chart["label"]
            assert chart["right"] <= page["width"], chart["label"]
            assert chart["width"] > 250, chart["label"]
            assert chart["height"] > 80, chart["label"]
            assert chart["texts"] > 4, chart["label"]
            assert chart["overlaps"] == [], chart["label"]
