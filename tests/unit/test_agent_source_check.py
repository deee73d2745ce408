"""An agent refuses a trainer whose source is not that of the search, and says what to do."""

from __future__ import annotations

from dataclasses import replace

from hpbandster_lite.agent.source_check import SourceCheck
from hpbandster_lite.problems.source import ARGUMENTS_DIFFER
from hpbandster_lite.protocol.messages import SourceAnswer
from hpbandster_lite.records import ProblemSource, SourceFile
from hpbandster_lite.trainer.messages import TrainerReady

SOURCE = ProblemSource(files=(SourceFile(path="net.py", hash="a"),), arguments="h")


def refusal(accepted: ProblemSource, found: ProblemSource) -> str:
    check = SourceCheck()
    check.trainer_is_ready(TrainerReady(problem="net", source_hash="", source=found, folder="/nowhere"))
    check.take(SourceAnswer(epoch=1, source=accepted))
    return check.refusal or ""


def test_a_trainer_with_the_same_files_and_arguments_is_taken() -> None:
    assert refusal(SOURCE, SOURCE) == ""
    assert refusal(replace(SOURCE, arguments=""), replace(SOURCE, arguments="")) == ""


def test_other_arguments_of_a_script_that_reads_them_are_refused_and_options_are_the_remedy() -> None:
    text = refusal(SOURCE, replace(SOURCE, arguments="of the file alone"))
    assert ARGUMENTS_DIFFER in text
    assert "declare them as options of the problem" in text
    assert "--accept-edited-source" in text


def test_another_file_is_refused_without_a_word_about_arguments() -> None:
    text = refusal(SOURCE, replace(SOURCE, files=(SourceFile(path="net.py", hash="b"),)))
    assert "net.py is another one" in text
    assert "options of the problem" not in text
