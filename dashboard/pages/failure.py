"""`/failures/{id}`: one rejected record: what came, what was expected, and the way to put it right."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nicegui import ui
from starlette.requests import Request

from dashboard.api_client import ApiProblem
from dashboard.bulk import watch_job
from dashboard.dialogs import open_dialog
from dashboard.elements import instead, tag, text, working
from dashboard.links import record_path, trace_path
from dashboard.live import Answer, Live
from dashboard.parts import badge, cell, command_line, empty, notice, pairs, panel, table, told_problem
from dashboard.payloads import LONGEST, changes, differs, edit_command, payload_as_text, pretty, to_send, views
from dashboard.shell import EVERY_SECONDS, RESPONSE_SECONDS, Page, page
from dashboard.words import ABSENT, ago, moment

DATASETS = "/datasets"

CRUMBS = (("/failures", "Dead letters"),)

MEANS = {
    "open": "Nobody has acted on it.",
    "queued": "A replay job will send it.",
    "replayed": "It was sent again; what becomes of it is not known yet.",
    "parked": "It failed again too often: it is sent only if somebody insists.",
    "stored": "It was sent again, and Postgres took it.",
    "superseded": "It was sent again, but the row comes from a newer record of its key.",
    "failed_again": "It was sent again and failed again.",
    "discarded": "Somebody decided against it.",
    "held": "Nothing may be wrong with it: it waits with the others of its source, of which nearly all failed.",
    "released": "It was held, and has been stored since.",
    "resolved": "It has been stored since, by itself: the value that it wanted was free.",
}


def install(live: Live) -> None:
    """Give the page its URL."""

    @ui.page("/failures/{failure_id}", response_timeout=RESPONSE_SECONDS)
    async def failure(request: Request, failure_id: int) -> None:
        with page(live, request, "/failures", f"Dead letter {failure_id}", crumbs=CRUMBS) as (shown, _):
            path = f"/failures/{failure_id}"
            await shown.show(path, _summary)
            await shown.show_all({path: EVERY_SECONDS, DATASETS: 60.0}, partial(_beside, path))
            await shown.show_once(path, partial(_editor, shown), quiet=True)
            await shown.show_all({path: EVERY_SECONDS}, partial(_done, path))


def _beside(path: str, answers: Mapping[str, Answer]) -> None:
    one = answers[path].data
    if not one:
        return  # the summary says why
    described = (answers[DATASETS].data or {}).get("data", ())
    expects = [known.get("expects", {}) for known in described if known["name"] == one["dataset"]]
    _sides(one, expects[0] if expects else {})


def _done(path: str, answers: Mapping[str, Answer]) -> None:
    if one := answers[path].data:
        _history(one)


def _summary(one: dict[str, Any]) -> None:
    settled = one["state"] in ("stored", "resolved", "released")
    about = f"panel diagnosis {'ok' if settled else 'bad'}"
    with tag("section", about, aria_label="What is wrong"), tag("div", "grow"):
        with tag("div", "row"):
            badge(one["state"])
            text("span", one["reason"], "badge plain")
            text("span", MEANS.get(one["state"], ""), "soft")
        text("p", one["message"], "sentence")
        with tag("p", "more break"):
            text("span", f"{one['stage']} rejected it {ago(one['failed_at'])}, {moment(one['failed_at'])} UTC. Key ")
            if one["key"]:
                text("a", one["key"], href=trace_path(one["dataset"], one["key"]))
            else:
                text("span", "unknown")
            text("span", f" of {one['dataset']}, from {one['source_name'] or 'an unnamed source'}; ")
            text("span", f"{one['topic']}/{one['partition']} at offset {one['offset']:,}", "mono")
        if one["failed_again_as"]:
            with tag("p", "more"):
                number = one["failed_again_as"]
                text("a", f"It failed again as dead letter {number}", href=f"/failures/{number}")
        if one["state"] == "stored" and one["key"]:
            with tag("p", "more"):
                text("a", "The record as it is stored", href=record_path(one["dataset"], one["key"]))


def _sides(one: dict[str, Any], expects: Mapping[str, str]) -> None:
    original = payload_as_text(one["payload"])
    sent = to_send(one)
    with tag("div", "grid wide"):
        with panel("As it came") as head:
            with head:
                text("span", f"{len(original):,} characters", "soft small")
            if original:
                with tag("div", "payload", tabindex="0", role="region", aria_label="The bytes as they came"):
                    text("span", pretty(original[:LONGEST]))
                    if len(original) > LONGEST:
                        text("span", f"\n… {len(original) - LONGEST:,} more characters", "faint")
            else:
                empty("A record without a value: it deletes its key.")
        with panel("Decoded, beside what is expected") as head:
            with head:
                text("span", "edited" if one["edited_payload"] else "as it came", "soft small")
            rows = views(sent, expects, one["problems"], one["message"])
            if not rows:
                empty("It cannot be decoded.", one["message"])
                return
            with tag("div", "table-wrap", tabindex="0", role="region", aria_label="Fields"), tag("table", "fields"):
                with tag("thead"), tag("tr"):
                    for name in ("Field", "Decoded", "Expected"):
                        text("th", name, scope="col")
                with tag("tbody"):
                    for row in rows:
                        with tag("tr", "wrong" if row.problem else ""):
                            text("td", row.name, "name mono")
                            with tag("td", "mono break"):
                                text(
                                    "span",
                                    "not there" if row.sent is None else row.sent,
                                    "faint" if row.sent is None else "",
                                )
                                if row.problem:
                                    text("span", row.problem, "why")
                            text("td", row.expects or "no field of the dataset; a mapping may read it", "soft small")


def _editor(shown: Page, one: dict[str, Any]) -> None:
    number = one["id"]
    original = pretty(payload_as_text(one["payload"]))
    binary = bool(one["payload"]) and one["payload"]["encoding"] != "utf-8"
    here = not binary and len(original) <= LONGEST
    start = pretty(to_send(one))
    state = {"text": start}
    with panel("Put it right, and send it again", body=True), tag("div", "stack"):
        form = tag("div", "stack")
        if not here:
            with form:
                notice(
                    "Edit this one on the command line",
                    "It is no text, or too long for a form.",
                    command=f"headrace failures edit {number} --file corrected.json",
                )
        told = tag("div", "stack")
        with tag("div", "row"):
            checks = [text("button", "Check and keep", "button", type="button")] if here else []
            words = "Check, keep and send again" if here else "Send again"
            send = text("button", words, "button main", type="button")
            discard = text("button", "Discard…", "button danger", type="button")
        text("p", "The same on the command line:", "soft small")
        lines = tag("div", "stack")

    def show_commands() -> None:
        with instead(lines):
            if here and (state["text"] != start or one["edited_payload"] is None):
                command_line(edit_command(number, original, pretty(state["text"])))
            command_line(f"headrace failures retry {number}")

    async def keep(*, and_send: bool, force: bool = False) -> None:
        job = None
        with working(send, *checks) as free:
            if not free:
                return
            with instead(told):
                text("p", "Checking…", "soft", role="status")
            try:
                # A check is always the API's. Who sends sends what he sees here: somebody else, another tab or the
                # command line may have kept another edit since this page was opened.
                if here and (not and_send or differs(await shown.api.get(f"/failures/{number}"), state["text"])):
                    body = {"payload": state["text"], "force": force}
                    await shown.api.act("POST", f"/failures/{number}/edit", shown.who, body)
                if and_send:
                    job = await shown.api.act("POST", f"/failures/{number}/retry", shown.who, {"force": force})
            except ApiProblem as problem:
                with instead(told):
                    _refused(problem, keep, number, and_send=and_send)
                return
        with instead(told):
            if job is not None:
                await watch_job(shown, job["id"])
            elif force:
                notice("It is kept, and would fail again", "It is sent only by force:", tone="warn",
                       command=f"headrace failures retry {number} --force")  # fmt: skip
            else:
                notice("It is valid, and kept", "Send it again whenever you like.", tone="ok")

    if here:
        with form:
            _text_area(state, start, show_commands)
    for check in checks:
        check.on("click", lambda: keep(and_send=False), [])
    send.on("click", lambda: keep(and_send=True), [])
    discard.on("click", lambda: _discard(shown, number), [])
    show_commands()


def _text_area(state: dict[str, str], start: str, changed: Callable[[], None]) -> None:
    with tag("label", "field"):
        text("span", "The record that is sent")
        area = tag("textarea", defaultValue=start, rows=min(22, max(8, start.count("\n") + 2)), spellcheck="false")

    def typed(event: Any) -> None:
        state["text"] = str(event.args)
        changed()

    area.on("input", typed, js_handler="(e) => emit(e.target.value)", throttle=0.3, leading_events=False)
    # Leaving the field tells at once: a button that is pressed next acts on what is there.
    area.on("change", typed, js_handler="(e) => emit(e.target.value)")


def _refused(problem: ApiProblem, keep: Any, number: int, *, and_send: bool) -> None:
    found = problem.body.get("problems") or []
    if not found:
        told_problem(problem)
        if and_send and "--force" in problem.detail:
            command_line(f"headrace failures retry {number} --force")
        return
    with tag("div", "notice bad", role="alert"), tag("div", "grow"):
        text("p", "It would fail again", "what")
        with tag("ul"):
            for one in found:
                text("li", f"{one.get('field') or 'record'}: {one.get('message') or one.get('code')}", "break")
        with tag("div", "way"):
            anyway = text("button", "Keep it all the same", "button", type="button")
    anyway.on("click", lambda: keep(and_send=False, force=True), [])


def _discard(shown: Page, number: int) -> None:
    reason = {"text": ""}
    sheet = open_dialog(shown, f"Discard dead letter {number}")
    with sheet.body:
        text("p", "It is no longer listed, and stays in Postgres with the reason that you give.")
        with tag("label", "field"):
            text("span", "Why")
            given = tag("input", type="text", maxlength="1000", required=True)
        command_line(f"headrace failures discard {number} --reason-text '…'")
        told = tag("div", "stack")
    with sheet.foot:
        decide = text("button", "Discard it", "button danger", type="button")
    given.on("input", lambda event: reason.update(text=str(event.args)), js_handler="(e) => emit(e.target.value)")

    async def discard() -> None:
        with instead(told):
            if not reason["text"].strip():
                notice("Say why", "Who looks at it later wants to know.", tone="warn")
                return
            try:
                body = {"reason_text": reason["text"].strip()}
                await shown.api.act("POST", f"/failures/{number}/discard", shown.who, body)
            except ApiProblem as problem:
                told_problem(problem)
                return
        sheet.close()

    decide.on("click", discard, [])


def _history(one: dict[str, Any]) -> None:
    with panel("What was done about it"):
        if not one["history"]:
            empty("Nothing yet.", "Whatever is done here or on the command line is kept, with who did it and when.")
            return
        with table("What was done", ("When", "What", "Who", "Note", "What changed")):
            for entry in one["history"]:
                with tag("tr"):
                    cell(ago(entry["at"]), "nowrap", sub=moment(entry["at"]))
                    cell(entry["action"].replace("_", " "), "nowrap")
                    cell(_person(entry["who"]), "nowrap", sub=entry["who"])
                    cell(entry["note"] or ABSENT, "break")
                    with tag("td", "words"):
                        _changed(entry)
    with panel("Coordinates", body=True):
        pairs(
            (name.replace("_", " "), str(one[name]))
            for name in ("run_id", "replay_of", "replay_job", "replayed_topic", "replayed_partition", "replayed_offset",
                         "blocked_by", "attempts")
            if one.get(name) is not None
        )  # fmt: skip


def _changed(entry: Mapping[str, Any]) -> None:
    if not entry["before"] and not entry["after"]:
        text("span", ABSENT, "faint")
        return
    for name, old, new in changes(payload_as_text(entry["before"]), payload_as_text(entry["after"])):
        with tag("div", "mono break"):
            if name:
                text("span", f"{name}: ")
            if old is not None:
                text("span", old[:2000], "diff-old")
                text("span", " ")
            if new is not None:
                text("span", new[:2000], "diff-new")


def _person(who: str) -> str:
    """`api:dashboard:ada:1f2e…` is ada, here."""
    parts = who.split(":")
    return f"{parts[2]}, on the dashboard" if parts[:2] == ["api", "dashboard"] and len(parts) > 2 else parts[0]
