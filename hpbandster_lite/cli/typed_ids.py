"""Read configurations and evaluations as ``list`` prints them: ``0-0-3`` and ``0-0-3@1``.

Law of this file: text in, an id or an error with the form of an id out; whether a search has it, the caller finds out.
"""

from __future__ import annotations

import re

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import ConfigId, EvaluationId

_ID = re.compile(r"(\d+)-(\d+)-(\d+)(?:@(\d+))?", re.ASCII)


def read_configuration_id(text: str) -> ConfigId:
    """Read a configuration; a rung after an @ is ignored.

    Raises
    ------
    UsageError
        If the text is not the id of a configuration.
    """
    config_id, _ = _parts(text)
    if config_id is None:
        raise UsageError(
            f"--config {text!r} is not a configuration; give one as list prints it: BRACKET-RUNG-INDEX, such as 0-0-3"
        )
    return config_id


def read_evaluation_id(text: str) -> EvaluationId:
    """Read an evaluation.

    Raises
    ------
    UsageError
        If the text is not the id of an evaluation.
    """
    config_id, rung = _parts(text)
    if config_id is None or rung is None:
        raise UsageError(
            f"{text!r} is not an evaluation; give one as list prints it: BRACKET-RUNG-INDEX@RUNG, such as 0-0-3@1"
        )
    return EvaluationId(config_id, rung)


def _parts(text: str) -> tuple[ConfigId | None, int | None]:
    match = _ID.fullmatch(text.strip())
    if match is None:
        return None, None
    return ConfigId(int(match[1]), int(match[2]), int(match[3])), None if match[4] is None else int(match[4])
