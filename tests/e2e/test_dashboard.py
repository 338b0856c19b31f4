"""The dashboard in a browser, on a pipeline with real data: every page, live, acted on, with hostile records in it."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Request, expect, sync_playwright

from dashboard.shell import PLACES
from runtime.settings import Settings
from tests.browser import chromium
from tests.processes import PLAIN, WORKERS, Pipeline
from tests.waiting import eventually

HOSTILE = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"

SEEN_MS = 60_000
"""However busy the machine; the dashboard itself asks every second."""

GRAVE = ("serious", "critical")

MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def pipeline(
    shared_pipeline_settings: Settings, tmp_path_factory: pytest.TempPathFactory, measuring: dict[str, str]
) -> Iterator[Pipeline]:
    """Everything with the dashboard, with customers from their source, a hostile record, and one that was rejected."""
    roles = ("mock-server", *WORKERS, "api", "dashboard")
    all_of_it = Pipeline(shared_pipeline_settings, tmp_path_factory.mktemp("pipeline"), roles)
    all_of_it["dashboard"].environment |= measuring
    with all_of_it as running:
        with httpx.Client(base_url=running["api"].url, timeout=120, trust_env=False, verify=PLAIN) as api:
            api.post("/api/ingest").raise_for_status()
            produce(api, customer("HOSTILE", first_name=HOSTILE))
            produce(api, customer("REFUSED", email="not an address", first_name=HOSTILE))
            produce(api, customer("GRACE", first_name="Grace", last_name="Hopper", email="grace at example.org"))
            eventually(lambda: api.get("/datasets/customers/HOSTILE").is_success, what="the hostile record is stored")
            for key in ("REFUSED", "GRACE"):
                eventually(partial(failure_of, api, key), what="the wrong record is rejected")
        yield running


@pytest.fixture(scope="module")
def api(pipeline: Pipeline) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pipeline["api"].url, timeout=30, trust_env=False, verify=PLAIN) as client:
        yield client


@pytest.fixture(scope="module")
def window() -> Iterator[Page]:
    """A window of a browser, for all of the file: to start it and compile the scripts is most of what a page costs."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running.new_context(accept_downloads=True, reduced_motion="reduce").new_page()
        running.close()


@pytest.fixture
def tab(window: Page, pipeline: Pipeline) -> Iterator["Tab"]:
    """The dashboard at 1280 by 800; in the end nothing was asked of anybody else, and no page had an error."""
    with Tab(window, pipeline) as opened:
        yield opened


class Tab:
    """The dashboard in a window, and whatever its pages asked for and complained of."""

    def __init__(self, window: Page, pipeline: Pipeline) -> None:
        self.url = pipeline["dashboard"].url
        self.page = window
        self.asked: list[str] = []
        self.errors: list[str] = []
        self._told = {"request": self._asked, "console": self._complained, "pageerror": self._failed}
        self.appear()

    def appear(self, scheme: Any = "light", width: int = 1280) -> None:
        """As somebody has it whose system likes these colours."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 800})

    def __enter__(self) -> "Tab":
        for event, hear in self._told.items():
            self.page.on(event, hear)  # type: ignore[call-overload]  # it knows each name for itself
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        for event, hear in self._told.items():
            self.page.remove_listener(event, hear)
        self.page.goto("about:blank")
        if kind is None:
            own = urlsplit(self.url).netloc
            assert [url for url in self.asked if urlsplit(url).netloc not in (own, "")] == []
            assert self.errors == []

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        expect(self.page.locator(".pulse.live")).to_be_visible(timeout=SEEN_MS)
        expect(self.page.locator(".skeleton")).to_have_count(0, timeout=SEEN_MS)
        return self.page

    def _complained(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _failed(self, error: object) -> None:
        self.errors.append(str(error))

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)


def customer(key: str, **fields: str) -> dict[str, str]:
    return {
        "customer_id": key,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": f"{key.lower()}@example.org",
    } | fields


def produce(api: httpx.Client, record: dict[str, str]) -> None:
    topics = api.get("/topics").raise_for_status().json()["data"]
    [raw] = [one["name"] for one in topics if one["dataset"] == "customers" and one["takes_test_records"]]
    api.post(f"/topics/{raw}/messages", json=record).raise_for_status()


def failure_of(api: httpx.Client, key: str) -> int | None:
    found = api.get("/failures/items", params={"key": key, "state": "all"}).raise_for_status().json()["data"]
    return found[0]["id"] if found else None


PAGES = {
    "/": ("Overview", "The way of the records"),
    "/lag": ("Lag", "sink-postgres"),
    "/lag/{group}": ("{group}", "Committed"),
    "/failures": ("Dead letters", "email_form"),
    "/failures/{failure}": ("Dead letter {failure}", "is not an e-mail address"),
    "/runs": ("Runs", "customers_api"),
    "/runs/{run}": ("Run {short}", "records confirmed by the broker"),
    "/data": ("Data", "customer_id"),
    "/data?q=larry": ("Data", "Where it matches"),
    "/data/customers/CUST001": ("CUST001", "john.doe@example.com"),
    "/trace": ("Trace", "Name a dataset and a key"),
    "/trace/customers/CUST001": ("CUST001", "What happened"),
    "/topics": ("Topics", "customers.raw"),
    "/topics/{topic}": ("{topic}", "customer_id"),
}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_shows_real_data_and_is_accessible_in_both_colours_and_on_a_phone(
    path: str, tab: Tab, pipeline: Pipeline, api: httpx.Client
) -> None:
    run = api.get("/runs").json()["data"][0]["run_id"]
    names = {
        "group": pipeline.settings.named("sink-postgres"),
        "failure": str(failure_of(api, "REFUSED")),
        "run": run,
        "short": run[:8],
        "topic": pipeline.settings.named("customers.raw"),
    }
    title, words = (text.format_map(names) for text in PAGES[path])
    for scheme, width in (("light", 1280), ("dark", 1920), ("dark", 360)):
        tab.appear(scheme, width)
        page = tab.go(path.format_map(names))
        assert page.title() == f"{title} · Headrace"
        expect(page.get_by_text(words).first).to_be_attached(timeout=SEEN_MS)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
        found = Axe().run(page).response["violations"]
        grave = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in GRAVE]
        assert grave == []


def test_a_record_that_is_pushed_shows_up_by_itself(tab: Tab, api: httpx.Client) -> None:
    page = tab.go("/failures")
    produce(api, customer("LIVE", email="still none"))
    expect(page.get_by_text("LIVE", exact=True)).to_be_visible(timeout=SEEN_MS)


def test_numbers_on_the_overview_are_those_of_the_api(tab: Tab, api: httpx.Client) -> None:
    page = tab.go("/")
    count = sum(group["count"] for group in api.get("/failures").json()["data"])
    figure = page.locator(".figure", has_text="Dead letters")
    expect(figure.locator(".value")).to_have_text(f"{count:,}", timeout=SEEN_MS)
    expect(page.locator(".figure", has_text="Records that wait").locator(".value")).to_have_text("0", timeout=SEEN_MS)
    told = api.get("/overview").json()
    expect(page.locator(".flow svg .node")).to_have_count(len(told["nodes"]))
    expect(page.locator(".flow svg .edge path")).to_have_count(len(told["edges"]))
    expect(page.locator(".diagnosis .sentence")).to_contain_text("nothing waits", timeout=SEEN_MS)


def test_a_failure_is_corrected_checked_and_sent_again_until_it_is_stored(tab: Tab, api: httpx.Client) -> None:
    produce(api, customer("MENDED", email="nearly@example"))
    number = eventually(lambda: failure_of(api, "MENDED"), what="it is rejected")
    page = tab.go(f"/failures/{number}")
    expect(page.locator("tr.wrong")).to_contain_text("email")
    area = page.get_by_label("The record that is sent")
    area.fill(area.input_value().replace("nearly@example", "still@wrong"))
    page.get_by_role("button", name="Check and keep").click()
    expect(page.get_by_text("It would fail again")).to_be_visible(timeout=SEEN_MS)
    area.fill(area.input_value().replace("still@wrong", "mended@example.org"))
    expect(page.get_by_text("--set email=mended@example.org")).to_be_visible(timeout=SEEN_MS)
    page.get_by_role("button", name="Check, keep and send again").click()
    expect(page.get_by_text("1 stored")).to_be_visible(timeout=SEEN_MS)
    assert api.get("/datasets/customers/MENDED").json()["email"] == "mended@example.org"
    expect(page.get_by_text("It was sent again, and Postgres took it.")).to_be_visible(timeout=SEEN_MS)
    history = api.get(f"/failures/{number}").json()["history"]
    assert [one["who"].startswith("api:dashboard:") for one in history if one["action"] == "edited"] == [True]


def test_many_are_sent_again_by_a_filter_after_a_dry_run(tab: Tab, api: httpx.Client) -> None:
    for key in ("MANY1", "MANY2"):
        produce(api, customer(key, email="many@"))
        eventually(partial(failure_of, api, key), what="it is rejected")
    page = tab.go("/failures?key=MANY1")
    page.get_by_role("button", name="Send many again").click()
    expect(page.get_by_text("would fail again: left out")).to_be_visible(timeout=SEEN_MS)
    expect(page.get_by_text("headrace failures retry --key MANY1")).to_be_visible()
    page.get_by_role("button", name="Close").last.click()
    api.post(
        f"/failures/{failure_of(api, 'MANY1')}/edit", json={"set": {"email": "many@example.org"}}
    ).raise_for_status()
    page.get_by_role("button", name="Send many again").click()
    page.get_by_role("button", name="Send 1 record again").click(timeout=SEEN_MS)
    expect(page.get_by_text("1 stored")).to_be_visible(timeout=SEEN_MS)
    assert api.get("/datasets/customers/MANY1").is_success


def test_a_failure_is_discarded_with_a_reason(tab: Tab, api: httpx.Client) -> None:
    produce(api, customer("THROWN", email="none"))
    number = eventually(lambda: failure_of(api, "THROWN"), what="it is rejected")
    page = tab.go(f"/failures/{number}")
    page.get_by_role("button", name="Discard…").click()
    page.get_by_role("button", name="Discard it").click()
    expect(page.get_by_text("Say why", exact=True)).to_be_visible(timeout=SEEN_MS)
    page.get_by_label("Why").fill("only a test")
    page.get_by_role("button", name="Discard it").click()
    expect(page.get_by_text("Somebody decided against it.")).to_be_visible(timeout=SEEN_MS)
    assert api.get(f"/failures/{number}").json()["history"][-1]["note"] == "only a test"


def test_a_test_record_is_produced_after_asking(tab: Tab, api: httpx.Client, pipeline: Pipeline) -> None:
    page = tab.go(f"/topics/{pipeline.settings.named('customers.raw')}")
    page.get_by_role("button", name="Produce a test record").click()
    page.get_by_label("The record, a JSON object").fill("[1]")
    page.get_by_role("button", name="Produce it").click()
    expect(page.get_by_text("It is no JSON object")).to_be_visible(timeout=SEEN_MS)
    page.get_by_label("The record, a JSON object").fill(json.dumps(customer("PRODUCED")))
    page.get_by_role("button", name="Produce it").click()
    expect(page.get_by_text("The broker has it")).to_be_visible(timeout=SEEN_MS)
    eventually(lambda: api.get("/datasets/customers/PRODUCED").is_success, what="it is stored")


def test_nothing_in_a_record_or_a_failure_runs_as_a_script(tab: Tab, api: httpx.Client, pipeline: Pipeline) -> None:
    number = failure_of(api, "REFUSED")
    topic = pipeline.settings.named("customers.raw")
    for path, words in (
        ("/data/customers/HOSTILE", "onerror"), ("/data?q=script", "onerror"), ("/failures?key=REFUSED", "REFUSED"),
        (f"/failures/{number}", "onerror"), ("/trace/customers/HOSTILE", "HOSTILE"),
        (f"/topics/{topic}?key=HOSTILE", "onerror"), (f"/data?q={quote(HOSTILE)}", "Search"),
        (f"/failures?reason={quote(HOSTILE)}", "No dead letter matches"),
        (f"/trace/customers/{quote(HOSTILE, safe='')}", "onerror"),
    ):  # fmt: skip
        page = tab.go(path)
        expect(page.get_by_text(words).first).to_be_attached(timeout=SEEN_MS)
        assert page.evaluate("window.ran") is None
        assert page.locator("main script, main img").count() == 0


def test_matches_are_marked_and_the_rest_is_text(tab: Tab) -> None:
    page = tab.go("/data?q=john&dataset=customers")
    expect(page.locator("em.hit").first).to_be_visible(timeout=SEEN_MS)
    assert page.locator("em.hit").first.inner_text().lower().startswith("john")


def test_it_is_used_by_keyboard(tab: Tab) -> None:
    page = tab.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="Shortcuts")).to_be_hidden()
    for place in (*PLACES[1:], PLACES[0], PLACES[2]):
        page.keyboard.press("g")
        page.keyboard.press(place.key)
        page.wait_for_url(f"{tab.url}{place.path}")
        expect(page.locator(".pulse.live")).to_be_visible(timeout=SEEN_MS)
    expect(page.locator("[data-row]").first).to_be_visible(timeout=SEEN_MS)
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.dataset.row") == ""
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "reason"


def test_colours_are_switched_and_remembered(tab: Tab) -> None:
    page = tab.go("/")
    switch = page.locator("[data-theme-switch]")
    switch.click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page = tab.go("/runs")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.evaluate("localStorage.clear()")  # the other tests' visitor has not switched


def test_the_place_of_who_reads_is_kept_while_numbers_change(tab: Tab, api: httpx.Client) -> None:
    page = tab.go("/failures")
    page.locator("table", has_text="Raw record").locator("tbody a").first.focus()
    focused = page.evaluate("document.activeElement.href")
    produce(api, customer("KEPT", email="none at all"))
    expect(page.get_by_text("KEPT", exact=True)).to_be_visible(timeout=SEEN_MS)
    assert page.evaluate("document.activeElement.href") == focused, "a new row comes above it"


PICTURES = {
    "overview": ("/", "light", "All is well"),
    "lag": ("/lag", "light", "Every group"),
    "failure": ("/failures/{failure}", "light", "is not an e-mail address"),
    "runs": ("/runs", "dark", "customers_api"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_pages_fit_the_documents(name: str, tab: Tab, api: httpx.Client, tmp_path: Path) -> None:
    """`make pictures` keeps them in docs/dashboard."""
    path, scheme, words = PICTURES[name]
    folder = Path(os.environ.get("HEADRACE_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    tab.appear(scheme)
    page = tab.go(path.format(failure=failure_of(api, "GRACE")))
    expect(page.get_by_text(words).first).to_be_visible(timeout=SEEN_MS)
    page.screenshot(path=folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size <= MOST_BYTES


def test_lists_are_exported_as_the_api_has_them(tab: Tab, api: httpx.Client) -> None:
    page = tab.go("/failures?state=all")
    total = api.get("/failures/items", params={"state": "all"}).json()["total"]
    exported = {}
    for kind in ("JSON", "CSV"):
        with page.expect_download() as download:
            page.get_by_label(f"Export the whole list as {kind}").click()
        exported[kind] = Path(download.value.path()).read_text()
    assert len(json.loads(exported["JSON"])) == total
    assert len(exported["CSV"].splitlines()) == total + 1


def test_an_api_that_is_down_is_told_and_comes_back_by_itself(tab: Tab, pipeline: Pipeline) -> None:
    page = tab.go("/failures")
    pipeline["api"].stop()
    try:
        expect(page.get_by_text("The API does not answer").first).to_be_visible(timeout=SEEN_MS)
        expect(page.locator(".pulse.lost")).to_be_visible(timeout=SEEN_MS)
        page.goto(tab.url + "/runs")
        expect(page.get_by_text("The API does not answer").first).to_be_visible(timeout=SEEN_MS)
        expect(page.get_by_text("headrace status").first).to_be_visible()
    finally:
        pipeline["api"].start()
        pipeline["api"].wait_until_healthy()
    expect(page.get_by_text("customers_api").first).to_be_visible(timeout=SEEN_MS)


def test_it_asks_the_api_nothing_while_nobody_looks(window: Page, pipeline: Pipeline) -> None:
    def polls() -> int:
        answer = pipeline["dashboard"].get("/health").json()
        return int(answer["polls"])

    eventually(lambda: polls() == 0, what="whoever looked before is gone")
    with Tab(window, pipeline) as tab, Tab(window.context.new_page(), pipeline) as other:
        tab.go("/lag")
        one = polls()
        other.go("/lag")
        assert polls() == one, "two who look share the questions"
    eventually(lambda: polls() == 0, what="nobody looks any more")


def test_the_api_sends_browsers_to_the_dashboard_and_programs_the_list(api: httpx.Client, pipeline: Pipeline) -> None:
    browsers = api.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browsers.status_code, browsers.headers["location"]) == (307, pipeline["dashboard"].url)
    programs = api.get("/", headers={"Accept": "*/*"})
    assert programs.json()["name"] == "headrace"


def test_a_name_that_is_not_loopback_is_refused(pipeline: Pipeline) -> None:
    answer = pipeline["dashboard"].get("", headers={"Host": "evil.example"})
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["/failures?key=N", "/export/data-customers.csv", "/_nicegui_ws/socket.io/?EIO=4"])
def test_pages_of_other_sites_get_nothing(path: str, pipeline: Pipeline) -> None:
    """Pictures and the like, and websockets: a handshake is refused before there is one."""
    as_picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    as_socket = {
        "Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    for headers in (as_picture, as_socket):
        with httpx.Client(base_url=pipeline["dashboard"].url, timeout=10, trust_env=False, verify=PLAIN) as browser:
            assert browser.get(path, headers=headers).status_code == 403
