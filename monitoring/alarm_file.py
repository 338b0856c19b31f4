"""`alarms.toml`: rules, and the webhooks that are told. An error names the rule, the setting, its value, a way out."""

import tomllib
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from monitoring.alarms import Rule, Severity
from runtime.egress import checked_address
from runtime.errors import Explained
from runtime.expansion import expanded
from runtime.settings import HeaderText, Settings, read_variables

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seconds = Annotated[float, Field(ge=0, le=30 * 86_400)]
Globs = tuple[Annotated[str, Field(min_length=1)], ...]

EVERYTHING: Globs = ("*",)

Bad = Literal["WARN", "REWIND", "STALL", "STOP", "NO CONSUMER"]


class AlarmFileError(Explained):
    """alarms.toml is wrong; the message has a line per problem."""


class RuleBlock(BaseModel):
    """Settings that every rule has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity = "warning"
    for_seconds: Seconds = 0.0
    clear_seconds: Seconds = 60.0
    remind_seconds: Seconds = 14_400.0
    targets: tuple[str, ...] | None = None
    """Names of [targets.NAME] blocks; not given: all of them."""


class GroupRule(RuleBlock):
    """A rule about consumer groups."""

    groups: Globs = EVERYTHING
    """Patterns of their names, without the pipeline's namespace or with it."""
    others: bool = False
    """Groups of other pipelines and programs too."""

    def concerns(self, *names: str) -> bool:
        """True for a group that has one of these names."""
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.groups)


class LagSeconds(GroupRule):
    """The oldest record that waits for a group is older than that."""

    when: Literal["lag_seconds"]
    above: Annotated[float, Field(gt=0)]


class VerdictIs(GroupRule):
    """The verdict on a group is one of these."""

    when: Literal["verdict"]
    verdicts: Annotated[tuple[Bad, ...], Field(min_length=1)] = ("STALL", "STOP", "NO CONSUMER")


class KafkaAway(RuleBlock):
    """The broker does not answer."""

    when: Literal["kafka_away"]


class FailureRate(RuleBlock):
    """Of a dataset's records in the window so large a share has failed or is held."""

    when: Literal["failure_rate"]
    above_percent: Annotated[float, Field(gt=0, lt=100)]
    records: Annotated[int, Field(ge=1)] = 100
    """Of fewer records in the window nothing is said."""
    window_seconds: Annotated[float, Field(ge=30, le=86_400)] = 300.0
    datasets: Globs = EVERYTHING


class AuditHole(RuleBlock):
    """The audit of a raw topic finds records that nobody will bring any more, or that are counted twice."""

    when: Literal["audit_hole"]


class WatchdogRestarts(RuleBlock):
    """The watchdog has restarted processes of a group more often than that within the window."""

    when: Literal["watchdog_restarts"]
    above: Annotated[int, Field(ge=0)] = 0
    window_seconds: Annotated[float, Field(ge=30, le=7 * 86_400)] = 3_600.0


class RunFailed(RuleBlock):
    """The latest run of a source has failed."""

    when: Literal["run_failed"]
    sources: Globs = EVERYTHING


class Drift(RuleBlock):
    """A source's fields have drifted, and it has not ended."""

    when: Literal["drift"]
    breaking_only: bool = True
    """Only where records fail because of it."""
    sources: Globs = EVERYTHING


AnyRule = LagSeconds | VerdictIs | KafkaAway | FailureRate | AuditHole | WatchdogRestarts | RunFailed | Drift

KINDS: dict[str, type[RuleBlock]] = {
    "lag_seconds": LagSeconds,
    "verdict": VerdictIs,
    "kafka_away": KafkaAway,
    "failure_rate": FailureRate,
    "audit_hole": AuditHole,
    "watchdog_restarts": WatchdogRestarts,
    "run_failed": RunFailed,
    "drift": Drift,
}


def _an_address(value: SecretStr) -> SecretStr:
    checked_address(value.get_secret_value())
    return value


class Target(BaseModel):
    """A webhook. Its address is a secret: whoever knows it may send."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["json", "slack"]
    """`json`: the event as it is; `slack`: a message in Slack's form, which others take too."""
    url: Annotated[SecretStr, AfterValidator(_an_address)]
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], HeaderText] = Field(default_factory=dict)


class AlarmFile(BaseModel):
    """Everything that is declared."""

    model_config = ConfigDict(frozen=True)

    rules: dict[str, AnyRule]
    targets: dict[str, Target]

    def judged(self) -> list[Rule]:
        """The part of each rule that is the same whatever it looks at."""
        return [
            Rule(
                name,
                one.severity,
                one.for_seconds,
                one.clear_seconds,
                one.remind_seconds,
                tuple(self.targets) if one.targets is None else one.targets,
            )
            for name, one in self.rules.items()
        ]


NOTHING = AlarmFile(rules={}, targets={})


def load_alarms(settings: Settings) -> AlarmFile:
    """The file that ALARMS_FILE names; nothing where it names none and there is none. Raises AlarmFileError."""
    path = settings.alarms_file
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if "alarms_file" not in settings.model_fields_set:
            return NOTHING
        # Nobody is to wait for alarms of a file whose name is misspelt, and none that is open closes while it is away.
        raise AlarmFileError(
            f"{path} does not exist: ALARMS_FILE names it; correct that, or put the file there"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AlarmFileError(f"{path} cannot be read: {error}") from error
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AlarmFileError(f"{path} cannot be read: {error}; correct it there") from error
    return parse_alarms(content, str(path), read_variables().get)


def parse_alarms(content: dict[str, Any], path: str, variable: Any = None) -> AlarmFile:
    """The file's content, validated. `variable` gives a variable's value or None. Raises AlarmFileError."""
    problems = [f"unknown table [{name}]; there are [rules.NAME] and [targets.NAME]" for name in content]
    problems = [line for line in problems if not line.startswith(("unknown table [rules]", "unknown table [targets]"))]
    targets = _blocks(content, "targets", problems, variable, lambda _: Target)
    named = content.get("targets", {})
    rules = _blocks(content, "rules", problems, variable, _rule_model)
    for name, rule in rules.items():
        problems += [
            f"[rules.{name}] targets: there is no [targets.{target}]; known: {', '.join(sorted(targets)) or 'none'}"
            for target in rule.targets or ()
            if isinstance(named, dict) and target not in named
        ]
    if problems:
        raise AlarmFileError("\n".join(f"{path}: {problem}" for problem in problems))
    return AlarmFile(rules=rules, targets=targets)


def _blocks(content: dict[str, Any], table: str, problems: list[str], variable: Any, model_of: Any) -> dict[str, Any]:
    blocks = content.get(table, {})
    if not isinstance(blocks, dict):
        problems.append(f"{table} = {blocks!r}: expected blocks [{table}.NAME]")
        return {}
    found = {}
    for name, values in blocks.items():
        where = f"[{table}.{name}]"
        if not isinstance(values, dict):
            problems.append(f"{where}: expected a block of settings, got {values!r}")
            continue
        try:
            TypeAdapter(Name).validate_python(name)
            found[name] = model_of(values).model_validate(expanded(values, variable or (lambda _: None)))
        except LookupError as error:
            problems.append(f"{where} {error.args[0]}")
        except ValidationError as error:
            problems += [_problem(where, one, values) for one in error.errors()]
    return found


def _rule_model(values: dict[str, Any]) -> type[RuleBlock]:
    kind = values.get("when")
    if not isinstance(kind, str) or kind not in KINDS:
        raise LookupError(f"when = {kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[kind]


def _problem(where: str, problem: Any, values: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    setting = ".".join(place)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{where} {setting} is missing: {values.get('when') or 'a target'} needs it"
    if problem["type"] == "extra_forbidden":
        return f"{where} {setting}: there is no such setting"
    if not place:
        return f"{where}: {message}; a name has letters, digits, - _ and ."
    secret = place[0] in ("url", "headers")
    return f"{where} {setting} = {'(hidden)' if secret else repr(problem['input'])}: {message}"
