"""The first difference between two spaces, as a sentence.

Law of this file: it compares ConfigSpace's JSON of two spaces, ignores what does not change a search (names of spaces,
versions, ``meta``), and names one difference that you can find in your file.
"""

from __future__ import annotations

from hpbandster_lite.records import Plain
from hpbandster_lite.space.clauses import describe
from hpbandster_lite.space.compile import condition_tree, forbidden_tree

_IGNORED = {"name", "meta"}


def first_difference(then: Plain, now: Plain) -> str | None:
    """The first difference between two spaces in ConfigSpace's JSON.

    Parameters
    ----------
    then, now
        The earlier and the later space, from :func:`~hpbandster_lite.space.configspace_to_json`.

    Returns
    -------
    str or None
        A sentence that names the hyperparameter and its field, such as ``hyperparameter 'lr': upper was 0.1 and is
        0.5``; ``None`` if the spaces are the same.
    """
    return _hyperparameters(then, now) or _conditions(then, now) or _forbidden(then, now) or _order(then, now)


def _hyperparameters(then: Plain, now: Plain) -> str | None:
    before = {item["name"]: item for item in then["hyperparameters"]}
    after = {item["name"]: item for item in now["hyperparameters"]}
    for name in (name for name in before if name not in after):
        return f"hyperparameter {name!r} is gone"
    for name in (name for name in after if name not in before):
        return f"hyperparameter {name!r} is new"
    for name, item in before.items():
        for field in dict.fromkeys(("type", *item, *after[name])):
            was, is_now = item.get(field), after[name].get(field)
            if field not in _IGNORED and _differ(was, is_now):
                return f"hyperparameter {name!r}: {field} was {was!r} and is {is_now!r}"
    return None


def _differ(a: Plain, b: Plain) -> bool:
    # repr distinguishes True from 1 and 1 from 1.0, which == does not.
    return repr(a) != repr(b)


def _conditions(then: Plain, now: Plain) -> str | None:
    before = {item["child"]: describe(condition_tree(item)) for item in then["conditions"]}
    after = {item["child"]: describe(condition_tree(item)) for item in now["conditions"]}
    for child in dict.fromkeys((*before, *after)):
        was, is_now = (conditions.get(child, "always active") for conditions in (before, after))
        if was != is_now:
            return f"hyperparameter {child!r}: condition was {was} and is {is_now}"
    return None


def _forbidden(then: Plain, now: Plain) -> str | None:
    before, after = ([describe(forbidden_tree(item)) for item in space["forbiddens"]] for space in (then, now))
    for text in (text for text in before if text not in after):
        return f"no longer forbidden: {text}"
    for text in (text for text in after if text not in before):
        return f"newly forbidden: {text}"
    return None


def _order(then: Plain, now: Plain) -> str | None:
    before, after = ([item["name"] for item in space["hyperparameters"]] for space in (then, now))
    return None if before == after else f"the order of the hyperparameters was {before} and is {after}"


def in_order_of(then: Plain, now: Plain) -> Plain:
    """The later space with the order that choices, and the values of conditions and clauses, have in the earlier one.

    Their order may differ between two processes if they come from a set. A default that is only the first choice
    follows the order; weights stay with their choices.
    """
    before = {item["name"]: item for item in then["hyperparameters"]}
    return {
        **now,
        "hyperparameters": [_sorted_choices(before.get(item["name"], {}), item) for item in now["hyperparameters"]],
        **{
            kind: [_sorted_values(old, new) for old, new in zip(then[kind], now[kind], strict=True)]
            for kind in ("conditions", "forbiddens")
            if len(then[kind]) == len(now[kind])
        },
    }


def _sorted_choices(then: Plain, now: Plain) -> Plain:
    choices, weights = now.get("choices"), now.get("weights")
    if choices is None or not _are_same(then.get("choices"), choices):
        return now
    place = {repr(choice): i for i, choice in enumerate(choices)}
    order = [place[repr(choice)] for choice in then["choices"]]
    default = now["default_value"]
    # ConfigSpace takes the first choice, or the first of the largest weight.
    best = [i for i in range(len(choices)) if weights is None or weights[i] == max(weights)]
    if not _differ(default, choices[best[0]]) and any(not _differ(then["default_value"], choices[i]) for i in best):
        default = then["default_value"]
    return {
        **now,
        "choices": [choices[i] for i in order],
        "weights": None if weights is None else [weights[i] for i in order],
        "default_value": default,
    }


def _sorted_values(then: Plain, now: Plain) -> Plain:
    """A condition or a clause with its values in the order of the earlier one; those within it, too."""
    found = dict(now)
    if _are_same(then.get("values"), now.get("values")):
        found["values"] = then["values"]
    for kind in ("conditions", "clauses"):
        old, new = then.get(kind) or [], now.get(kind) or []
        if new and len(old) == len(new):
            found[kind] = [_sorted_values(*pair) for pair in zip(old, new, strict=True)]
    return found


def _are_same(then: Plain, now: Plain) -> bool:
    """Whether two lists have the same values in any order."""
    return bool(then) and bool(now) and sorted(map(repr, then)) == sorted(map(repr, now))


def has_only_grown(then: Plain, now: Plain) -> bool:
    """Whether the later space only adds to the earlier one.

    It may have new hyperparameters and choices, wider ranges, fewer forbidden clauses and other conditions.
    """
    before = {item["name"]: item for item in then["hyperparameters"]}
    after = {item["name"]: item for item in now["hyperparameters"]}
    has_all = all(name in after and _covers(item, after[name]) for name, item in before.items())
    return has_all and not _newly_forbidden(then, now)


_GROWS = {"lower", "upper", "choices", "sequence", "default_value", "weights"}


def _covers(item: Plain, later: Plain) -> bool:
    kept = {*item, *later} - _GROWS - _IGNORED
    if any(_differ(item.get(name), later.get(name)) for name in kept):
        return False
    if "lower" in item and not (later["lower"] <= item["lower"] and later["upper"] >= item["upper"]):
        return False
    if not set(map(repr, item.get("choices", ()))) <= set(map(repr, later.get("choices", ()))):
        return False
    # Ordinals keep their order.
    ordered, wider = (list(map(repr, each.get("sequence", ()))) for each in (item, later))
    return [value for value in wider if value in ordered] == ordered


def _newly_forbidden(then: Plain, now: Plain) -> bool:
    before, after = ([describe(forbidden_tree(item)) for item in space["forbiddens"]] for space in (then, now))
    return bool(set(after) - set(before))
