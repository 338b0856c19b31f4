"""Makes the overview of what was read, by pure rules: the flow, its states, and the sentence that tells the worst."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from monitoring.verdicts import SEVERITY, Verdict
from monitoring.view import GroupView, SystemLag, TopicView
from runtime.settings import Settings
from schemas.dataset import Dataset
from schemas.registry import all_datasets
from schemas.sinks import POSTGRES, SINKS, Kind
from schemas.topics import FAILURES_TOPIC
from services.overview.model import (
    AuditSketch,
    FlowEdge,
    FlowNode,
    Latency,
    NodeKind,
    OpenLetters,
    Overview,
    State,
)
from services.overview.reads import Covered, LastRun, Outbox

STATES: Mapping[Verdict, State] = {
    Verdict.OK: "ok",
    **dict.fromkeys((Verdict.WARN, Verdict.REWIND), "warn"),
    **dict.fromkeys((Verdict.STALL, Verdict.STOP, Verdict.NO_CONSUMER), "bad"),
}

WORDS: Mapping[Verdict, str] = {
    Verdict.WARN: "falls behind",
    Verdict.REWIND: "was put back",
    Verdict.STALL: "stands in a part",
    Verdict.STOP: "has stopped",
    Verdict.NO_CONSUMER: "is not there",
}

WITHOUT_STORE = {
    "postgres": "records wait in Kafka until it is back, and only cached reads are answered",
    "kafka": "nothing flows until it is back; reads are answered",
    "elasticsearch": "searches are answered by Postgres, and changes wait in Kafka",
    "redis": "reads are answered by Postgres, and changes wait in Kafka",
}


RELAY_LATE_SECONDS = 5.0
RELAY_STOPPED_SECONDS = 30.0
"""A change leaves the outbox within a moment while the relay runs."""


@dataclass(frozen=True)
class Read:
    """All that was read. None: its store does not answer; `stores` says of each why, or that it is well (None)."""

    settings: Settings
    at: datetime
    stores: Mapping[str, str | None]
    lag: SystemLag | None
    runs: Sequence[LastRun] = ()
    letters: OpenLetters | None = None
    covered: Sequence[Covered] | None = None
    outbox: Outbox | None = None
    latency: Latency | None = None
    peaks: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By group and topic, the most offsets a second that it was seen to commit: what it can do."""


def overview(read: Read) -> Overview:
    """The overview of what was read."""
    audit = sketch(read)
    troubles = list(_troubles(read, audit))
    state: State = "ok" if not troubles else max((state for state, _ in troubles), key=_severity)
    told = [text for _, text in troubles]
    nodes, edges = _flow(read)
    return Overview(
        at=read.at,
        state=state,
        diagnosis=told[0] if told else _all_is_well(read),
        troubles=told,
        nodes=nodes,
        edges=edges,
        dead_letters=read.letters,
        latency=read.latency,
        audit=audit,
        window_seconds=read.lag.window_seconds if read.lag else None,
        monitored=read.lag.monitored if read.lag else False,
    )


def _severity(state: State) -> int:
    return ("none", "ok", "unknown", "warn", "bad").index(state)


def _troubles(read: Read, audit: AuditSketch) -> Iterator[tuple[State, str]]:
    """Sentences on what is not well, worst first."""
    for store in ("postgres", "kafka"):
        if reason := read.stores.get(store):
            yield "bad", f"{store.capitalize()} does not answer ({reason}): {WITHOUT_STORE[store]}."
    stuck = sorted(
        ((group, topic) for group in (read.lag.groups if read.lag else ()) for topic in group.topics
         if group.ours and topic.verdict is not Verdict.OK),
        key=lambda pair: (-SEVERITY[pair[1].verdict], -pair[1].waiting),
    )  # fmt: skip
    for group, topic in stuck:
        yield STATES[topic.verdict], _of_group(read, group, topic)
    waits = _waits(read)
    if waits > RELAY_LATE_SECONDS and read.outbox and not read.stores.get("kafka"):
        state: State = "bad" if waits > RELAY_STOPPED_SECONDS else "warn"
        yield state, f"The relay is behind: {read.outbox.waiting:,} changes wait, the oldest for {_duration(waits)}."
    for store in ("elasticsearch", "redis"):
        if (reason := read.stores.get(store)) and store not in read.settings.absent_stores:
            yield "warn", f"{store.capitalize()} does not answer ({reason}): {WITHOUT_STORE[store]}."
    if read.letters and read.letters.held:
        many = f"{read.letters.held:,} records are held" if read.letters.held > 1 else "1 record is held"
        yield "warn", f"{many}, since nearly all of their source failed: `headrace failures list`."
    if audit.verdict == "gaps":
        yield "warn", f"{audit.detail[0].upper()}{audit.detail[1:]}."
    for run in read.runs:
        if run.status == "failed":
            yield "warn", f"The last run of {run.source} failed: {_short(run.failure_reason or 'it did not say why')}."


def _of_group(read: Read, group: GroupView, topic: TopicView) -> str:
    """`customers: the Postgres sink has stopped, 812 behind, the oldest for 94 s; catching up would take 3 s.`"""
    about = "" if topic.exact else "at most "
    oldest = "" if topic.seconds is None else f", the oldest for {_duration(topic.seconds)}"
    text = f"{_dataset(read, topic.topic)}: {_who(read, group.group)} {WORDS[topic.verdict]}, "
    text += f"{about}{topic.waiting:,} behind{oldest}"
    if topic.drain_seconds:
        return f"{text}; it will have caught up in {_duration(topic.drain_seconds)}."
    peak = read.peaks.get((group.group, topic.topic))
    if peak:
        return f"{text}; catching up would take {_duration(topic.waiting / peak)}."
    return f"{text}."


def _all_is_well(read: Read) -> str:
    parts = []
    lag = read.lag
    if lag is not None:
        came = sum(
            topic.rate_in or 0 for group in lag.groups for topic in group.topics
            if group.group == read.settings.named("normalizer")
        )  # fmt: skip
        parts.append(f"{came:,.1f} records/s come in" if came >= 0.05 else "nothing comes in at the moment")
        late = lag.seconds or 0
        parts.append(
            "nothing waits" if not lag.waiting else f"{lag.waiting:,} are on their way, {_duration(late)} at most"
        )
    if read.letters and read.letters.open:
        age = (read.at - read.letters.oldest).total_seconds() if read.letters.oldest else 0
        letters = "dead letters are" if read.letters.open > 1 else "dead letter is"
        parts.append(f"{read.letters.open:,} {letters} open, the oldest for {_duration(age)}")
    return f"All is well: {', '.join(parts)}." if parts else "All is well."


def sketch(read: Read) -> AuditSketch:
    """Coverage against the ends that the lag knows of the raw topics. Pure."""
    if read.covered is None or read.lag is None:
        return AuditSketch("unknown", 0, 0, 0, "Postgres or Kafka does not answer")
    group = read.lag.group(read.settings.named("normalizer"))
    ends = {(topic.topic, one.partition): one for topic in (group.topics if group else ()) for one in topic.partitions}
    known = {(one.topic, one.partition): one for one in read.covered}
    in_flight = gaps = 0
    for place, end in ends.items():
        one = known.get(place)
        in_flight += max(0, end.end - max(one.upper if one else 0, end.begin))
        gaps += max(0, one.ranges - 1) if one else 0
    covered = sum(one.offsets for one in read.covered)
    if gaps:
        where = f"{gaps} gap{'s' * (gaps > 1)} in what Postgres covers"
        detail = f"{where}; on their way if they close, else `headrace audit` tells"
        moving = in_flight or read.lag.waiting
        return AuditSketch("in flight" if moving else "gaps", covered, in_flight, gaps, detail)
    if in_flight:
        return AuditSketch("in flight", covered, in_flight, 0, f"{in_flight:,} offsets are not covered yet")
    return AuditSketch("complete", covered, 0, 0, "every offset of the raw topics is covered")


def _flow(read: Read) -> tuple[list[FlowNode], list[FlowEdge]]:
    flow = _Flow(read)
    for dataset in all_datasets():
        flow.add_dataset(dataset)
    failures = flow.topic(FAILURES_TOPIC, None)
    flow.edges.append(FlowEdge("agent:normalizer", failures.id, "ok", failures.rate))
    flow.add_sinks("failures", failures)
    return list(flow.nodes.values()), list(dict.fromkeys(flow.edges))


class _Flow:
    """Nodes by id, in the order in which records come by them, and edges."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.nodes: dict[str, FlowNode] = {}
        self.edges: list[FlowEdge] = []
        named = read.settings.named
        self._groups = {one.group: one for one in (read.lag.groups if read.lag else ()) if one.ours}
        self._named = named

    def add_dataset(self, dataset: Dataset) -> None:
        if dataset.written_by == "api":
            store = self._store("postgres")
            changed = self.topic(dataset.changed_topic, dataset)
            relay = self._add(_relay(self.read))
            self.edges.append(FlowEdge(store.id, relay.id, relay.state, None, relay.waiting))
            self.edges.append(FlowEdge(relay.id, changed.id, relay.state, changed.rate))
        else:
            raw = self.topic(dataset.raw_topic, dataset)
            for run in self.read.runs:
                if run.dataset == dataset.name:
                    source = self._add(_source(run))
                    self.edges.append(FlowEdge(source.id, raw.id, source.state))
            agent = self._reader("normalizer", "agent", raw)
            self.add_sinks("raw", raw)
            clean = self.topic(dataset.clean_topic, dataset)
            self.edges.append(FlowEdge(agent.id, clean.id, "ok", clean.rate))
            self.add_sinks("clean", clean)
            changed = self.topic(dataset.changed_topic, dataset)
            self.edges.append(FlowEdge(f"sink:{POSTGRES.group}", changed.id, "ok", changed.rate))
        self.add_sinks("changed", changed)

    def add_sinks(self, kind: Kind, topic: FlowNode) -> None:
        """The sinks that read a topic, and the stores that they write to."""
        for sink in SINKS:
            if kind in sink.reads and sink.needs not in self.read.settings.absent_stores:
                reader = self._reader(sink.group, "sink", topic)
                store = self._store(sink.needs or "postgres")
                self.edges.append(FlowEdge(reader.id, store.id, _worst(reader.state, store.state), reader.rate))

    def topic(self, name: str, dataset: Dataset | None) -> FlowNode:
        """A topic, with the rate at which it is written: any group that reads it knows that."""
        physical = self._named(name)
        views = [one for group in self._groups.values() for one in group.topics if one.topic == physical]
        rate = next((one.rate_in for one in views if one.rate_in is not None), None)
        state: State = "unknown" if self.read.lag is None else "ok"
        return self._add(
            FlowNode(f"topic:{name}", "topic", physical, state, None, rate, None, dataset.name if dataset else None)
        )

    def _reader(self, name: str, kind: NodeKind, topic: FlowNode) -> FlowNode:
        """The consumer group, and its edge from the topic."""
        group = self._groups.get(self._named(name))
        state = STATES[group.verdict] if group else "unknown"
        figures = (group.rate_out, group.waiting) if group else (None, None)
        node = self._add(FlowNode(f"{kind}:{name}", kind, name, state, (group and group.reason) or None, *figures))
        view = next((one for one in (group.topics if group else ()) if one.topic == topic.name), None)
        if view is None:
            self.edges.append(FlowEdge(topic.id, node.id, "unknown"))
        else:
            self.edges.append(
                FlowEdge(
                    topic.id,
                    node.id,
                    STATES[view.verdict],
                    view.rate_out,
                    view.waiting,
                    view.exact,
                    view.seconds,
                    view.drain_seconds,
                    view.verdict.value,
                    view.reason or None,
                )
            )
        return node

    def _store(self, name: str) -> FlowNode:
        if name in self.read.settings.absent_stores:
            return self._add(FlowNode(f"store:{name}", "store", name, "none"))
        reason = self.read.stores.get(name)
        return self._add(FlowNode(f"store:{name}", "store", name, "bad" if reason else "ok", reason))

    def _add(self, node: FlowNode) -> FlowNode:
        return self.nodes.setdefault(node.id, node)


def _relay(read: Read) -> FlowNode:
    """The relay, by what waits in the outbox for it."""
    if read.outbox is None:
        return FlowNode("relay:relay", "relay", "relay", "unknown")
    waits = _waits(read)
    state: State = "bad" if waits > RELAY_STOPPED_SECONDS else "warn" if waits > RELAY_LATE_SECONDS else "ok"
    detail = f"the oldest change waits for {_duration(waits)}" if state != "ok" else None
    return FlowNode("relay:relay", "relay", "relay", state, detail, None, read.outbox.waiting)


def _waits(read: Read) -> float:
    """The age of the oldest change in the outbox, in seconds."""
    oldest = read.outbox.oldest if read.outbox else None
    return 0.0 if oldest is None else (read.at - oldest).total_seconds()


def _source(run: LastRun) -> FlowNode:
    when = run.finished_at or run.started_at
    told = {"failed": f"failed: {_short(run.failure_reason or '')}", "running": "is running"}
    published = f", {run.published:,} published" if run.published is not None else ""
    detail = f"{told.get(run.status, run.status)}{published}, {when.strftime('%Y-%m-%d %H:%M:%S')} UTC"
    state: State = "warn" if run.status == "failed" else "ok"
    return FlowNode(f"source:{run.source}", "source", run.source, state, detail, None, None, run.dataset)


def _worst(*states: State) -> State:
    return max(states, key=_severity)


def _dataset(read: Read, topic: str) -> str:
    """The dataset of a physical topic; the topic itself where all share it."""
    name = topic.removeprefix(read.settings.named(""))
    return name.rpartition(".")[0] or name


def _who(read: Read, group: str) -> str:
    """A group for people."""
    name = group.removeprefix(read.settings.named(""))
    return f"the {name.removeprefix('sink-').capitalize()} sink" if name.startswith("sink-") else f"the {name}"


def _duration(seconds: float) -> str:
    """`94 s`, `12 min`, `3.5 h`, `4 days`. Pure."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def _short(text: str) -> str:
    line = text.partition("\n")[0].rstrip(".")
    return line if len(line) <= 160 else f"{line[:159]}…"
