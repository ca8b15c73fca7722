"""The verdict in plain words: what is good about outputs, what is not, what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator

from climdown.evaluation.bootstrap import Score, Skill
from climdown.evaluation.evaluate import Evaluation
from climdown.evaluation.finding import Finding, Level
from climdown.evaluation.plan import Plan
from climdown.evaluation.rules import RULES, Rule, level_of
from climdown.evaluation.training_days import seen_days

__all__ = ["Finding", "Level", "findings"]

_SKILL = "crps"
_SKILL_RULE = (
    "crps: green if it is lower than the baseline's in the whole interval of 95 %, both resampled "
    "on the same days; red if it is higher in all of it, else grey"
)
_REPEATED_RULE = "red if several members are one and the same on the days looked at"
_PAIRING_RULE = (
    "grey if days of outputs and reference are not the same days, or if that was not looked at"
)


def findings(evaluation: Evaluation) -> list[Finding]:
    """What is good, what is not, and what cannot be told, for each output that is no baseline."""
    found: list[Finding] = []
    for output in evaluation.plan.judged:
        found += _of_output(evaluation.plan, output)
        for skill in (s for s in evaluation.skills if s.output == output and s.measure == _SKILL):
            found.append(_of_skill(skill))
        for score in (s for s in evaluation.scores if s.output == output):
            found += _of_score(evaluation.plan, score)
    return found


def _of_output(plan: Plan, output: str) -> Iterator[Finding]:
    """What concerns all variables."""
    if (seen := seen_days(plan, output)) is not None:
        yield seen
    if output in plan.repeated:
        text = f"all {len(plan.outputs[output].members)} members are one and the same field"
        yield Finding(output, "", "poor", text, _REPEATED_RULE)
    if not plan.paired:
        text = f"how well it forecasts single days cannot be told: {plan.pairing.why}"
        yield Finding(output, "", "unknown", text, _PAIRING_RULE)


def _of_skill(skill: Skill) -> Finding:
    share = f"{abs(skill.value):.0%}"
    better = f"{share} {'lower' if skill.value > 0 else 'higher'}"
    if skill.low is None or skill.high is None:
        level: Level = "unknown"
    else:
        # Of skill, where high is good, the distance to a perfect 1 is what is low.
        level = level_of((1.0 - skill.high, 1.0 - skill.low), 1.0, 1.0)
    texts = {
        "good": f"closer to what happened than {skill.baseline}: its CRPS is {better}",
        "poor": f"farther from what happened than {skill.baseline}: its CRPS is {better}",
        "unknown": f"whether it is closer to what happened than {skill.baseline} cannot be told: "
        f"its CRPS is {better}, and {_interval(skill)}",
    }
    return Finding(skill.output, skill.variable, level, texts[level], _SKILL_RULE, _SKILL)


def _interval(skill: Skill) -> str:
    if skill.low is None or skill.high is None:
        return f"{skill.segments} blocks of days are too few"
    return f"of the skill the interval is {skill.low:.0%} to {skill.high:.0%}"


def _of_score(plan: Plan, score: Score) -> Iterator[Finding]:
    members = len(plan.outputs[score.output].members)
    scene = plan.scenes[score.variable.partition("+")[0]]
    for rule in RULES:
        if rule.measure == score.measure and members >= rule.members:
            level = rule.level(score, scene)
            text = _text(rule, level, score)
            place = score.output, score.variable
            yield Finding(*place, level, text, rule.describe(), rule.measure)


def _text(rule: Rule, level: Level, score: Score) -> str:
    units = "" if score.units == "1" else f" {score.units}"
    shown = {
        name: "unknown" if number is None else f"{number:.3g}{units}"
        for name, number in (("value", score.value), ("reference", score.reference))
    }
    if level != "unknown":
        return rule.words[level].format(**shown)
    own = "" if score.reference is None else f", reference {shown['reference']}"
    few = " (too few segments of time)" if score.low is None else ""
    return f"whether {rule.aspect} cannot be told: {shown['value']}{own}{few}"
