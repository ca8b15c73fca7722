"""Whether an output is judged on days that the prior of its making has seen."""

from __future__ import annotations

from dataclasses import replace

from climdown.errors import ClimdownError, InputError
from climdown.evaluation.finding import Finding
from climdown.evaluation.plan import Plan
from climdown.evaluation.request import REFERENCE
from climdown.files import file_digest
from climdown.priors.card import CARD_FILE, Card, read_card
from climdown.priors.store import find_prior

_RULE = (
    "red if a judged day of the reference lies in the period that the prior was trained on, amber "
    "if one lies in the period that its validation used; the card of the prior says which"
)


def seen_days(plan: Plan, output: str) -> Finding | None:
    """What the card of the prior says of the judged days; None of outputs without a prior."""
    attributes = plan.outputs[output].attributes
    name = str(attributes.get("climdown_prior", ""))
    if not name:
        return None
    card, why = _card(name, str(attributes.get("climdown_prior_sha256", "")))
    found = None if card is None else _by_card(plan, output, name, card)
    if found is not None and not why:
        return found
    if found is not None and found.level == "poor":
        return replace(found, text=f"{found.text} ({why})")
    text = f"whether the prior {name} has seen the judged days cannot be told: {why}"
    return Finding(output, "", "unknown", text, _RULE)


def _by_card(plan: Plan, output: str, name: str, card: Card) -> Finding:
    total = len(plan.segments[REFERENCE].steps)
    trained, validated = (str(card.training.get(key, "")) for key in ("train", "validation"))
    if count := _days_within(plan, card, trained):
        text = (
            f"{count} of the {total} judged days lie in {trained}, on which the prior {name} was "
            "trained: the scores do not say how well it does on days that it has not seen"
        )
        return Finding(output, "", "poor", text, _RULE)
    if count := _days_within(plan, card, validated):
        text = (
            f"{count} of the {total} judged days lie in {validated}, by which the training of the "
            f"prior {name} was watched: on other days it may do a little worse"
        )
        return Finding(output, "", "fair", text, _RULE)
    if not trained:
        text = f"the card of the prior {name} does not say which days it was trained on"
        return Finding(output, "", "unknown", text, _RULE)
    text = f"the prior {name} was trained on other days ({trained}) than those judged"
    return Finding(output, "", "good", text, _RULE)


def _days_within(plan: Plan, card: Card, period: str) -> int:
    """Judged days of the reference in a period, in months that the prior knows."""
    axis = plan.reference.time.isel(plan.segments[REFERENCE].steps)
    try:
        inside = axis.isel(axis.select(period or "0001/0001"))
    except (InputError, ValueError):
        return 0
    return sum(date.month in card.months for date in inside.centres)


def _card(name: str, digest: str) -> tuple[Card | None, str]:
    """The card of a prior by name, if there is one, and what speaks against it."""
    try:
        folder = find_prior(name)
        same = not digest or file_digest(folder / CARD_FILE) == digest
        return read_card(folder), "" if same else "the card of that name here is another version"
    except ClimdownError as error:
        return None, str(error)
