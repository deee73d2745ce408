"""What Slurm's commands print, read; and what to do about what they refuse.

Law of this file: text in, values out; nothing is run. Formats are those of Slurm 20.11 to 24.05.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hpbandster_lite.errors import UsageError

QUEUE_FORMAT = "%i|%A|%T|%M|%L|%R"
"""For squeue: job and task, the task's own number, state, time used, time left, nodes or the reason for waiting."""
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
UNTIL_LATER = frozenset({"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"})
ENDING = "COMPLETING"
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"partition name specified|invalid partition specified",
        "--partition names none that there is; sinfo -s lists them",
    ),
    (
        r"account or account/partition combination|invalid account",
        "give an account that you may charge with --account; sacctmgr show assoc user=$USER format=account,partition "
        "lists yours",
    ),
    (
        r"invalid qos",
        "give a QOS of yours behind -- as --qos=NAME; sacctmgr show assoc user=$USER format=account,qos lists them",
    ),
    (
        r"time limit is invalid|exceeds? some limit|time limit exceeds",
        "ask for less with --time; sinfo -o '%P %l' lists the longest time of each partition. A search goes on over "
        "as many jobs as it takes: each is queued again at its time limit",
    ),
    (
        r"invalid (--time|time limit) specification|invalid time",
        "--time takes minutes (90), hours:minutes:seconds (12:00:00) or days-hours (1-12)",
    ),
    (
        r"generic resource|invalid gres|gres specification",
        "the GPUs of this cluster have another name; sinfo -o '%P %G' lists them. Give it behind --, for example "
        "-- --gres=gpu:a100:1, or --gpus-per-worker 0 for workers without one",
    ),
    (
        r"node configuration is not available|more processors requested|memory specification",
        "no node of the partition has so much; sinfo -o '%P %G %c %m' lists GPUs, cores and memory of each. Ask for "
        "less with --gpus-per-worker or --cpus-per-worker, or name another --partition",
    ),
    (
        r"job array specification",
        "the array is larger than this cluster allows; scontrol show config | grep MaxArraySize tells how large it may "
        "be. Begin with fewer --workers; slurm scale adds further arrays",
    ),
    (
        r"accounting/qos policy|qos\w*limit|assoc\w*limit|submit limit",
        "your account is allowed no more at present; ask for fewer --workers or less --time, or cancel other jobs",
    ),
    (r"invalid feature|constraint", "sinfo -o '%P %f' lists what --constraint may name"),
    (
        r"unrecognized option|invalid option|requires an argument",
        "it stands behind --, and sbatch has no such option; see man sbatch",
    ),
    (
        r"permission denied|not permitted",
        "you may not use what you asked for; see sinfo -s for partitions and your account's rights",
    ),
    (r"dependency", "the master's job has gone already; scontrol show job tells what became of it"),
)
"""What in sbatch's words tells what to change, and how; the first that fits counts."""
REASONS: tuple[tuple[str, str], ...] = (
    (
        r"Partition(Config|\w*Limit)|ReqNodeNotAvail|BadConstraints",
        "asks for more than its partition has or allows: see sinfo -o '%P %l %D %G %c %m'; cancel, and submit with "
        "less --time, fewer --nodes or another --partition",
    ),
    (
        r"QOS\w*|Assoc\w*|AccountNotAllowed|Invalid(Account|QOS)",
        "your account is allowed no more at present; it waits until other jobs of yours have ended",
    ),
    (r"DependencyNeverSatisfied", "the master's job ended before it had begun; cancel, and submit again"),
    (
        r"JobHeld(User|Admin)|launch failed requeued held",
        "is held: scontrol release JOB lets it go on, once what went wrong is mended",
    ),
    (r"BeginTime", "was queued again, and begins after the pause that this cluster makes then"),
    (r"JobArrayTaskLimit", "the throttle of its array; scontrol update JobId=JOB ArrayTaskThrottle=N raises it"),
)
"""Reasons for which a job waits that do not speak for themselves, and what to do."""
UNREACHABLE = re.compile(
    r"unable to contact slurm controller|connection refused|socket timed out|slurm_persist", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job, or a task of an array, as Slurm tells of it.

    Attributes
    ----------
    name
        ``12``, or ``12_3`` for task 3 of the array 12: what scancel takes.
    number
        Its own number, which the job sees as SLURM_JOB_ID.
    state
        In Slurm's words.
    used, left
        Time, as Slurm writes it; empty where it does not tell.
    where
        Its nodes, the reason for which it waits in parentheses, or the exit code of one that is over.
    """

    name: str
    number: str
    state: str
    used: str = ""
    left: str = ""
    where: str = ""

    @property
    def array(self) -> str:
        """Number of the job that sbatch printed."""
        return self.name.partition("_")[0]

    @property
    def is_waiting(self) -> bool:
        """Whether it has not begun, or is to begin again."""
        return self.state in WAITING

    @property
    def is_living(self) -> bool:
        """Whether it runs or is to run; one that is being cleared away does not."""
        return self.is_waiting or self.state in UNTIL_LATER

    @property
    def used_s(self) -> int:
        """Seconds that it has run; 0 where Slurm does not tell."""
        return seconds_of(self.used)


def submitted(text: str) -> str:
    """Number of the job in what ``sbatch --parsable`` prints.

    Raises
    ------
    UsageError
        If there is none.
    """
    last = (text.strip().splitlines() or [""])[-1]
    number = last.partition(";")[0].strip()
    if not number.isdecimal():
        raise UsageError(
            f"sbatch printed {text.strip()!r} where the number of a job was to be; is it a wrapper of your site?"
        )
    return number


def queued(text: str) -> list[QueuedJob]:
    """Jobs in what squeue prints with :data:`QUEUE_FORMAT`, one task of an array a line."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 5)]
        if len(fields) == 6:
            name, number, state, used, left, where = fields
            found.append(QueuedJob(name=name, number=number, state=state, used=used, left=left, where=where))
    return found


def shown(text: str) -> list[QueuedJob]:
    """Jobs in what ``scontrol --oneliner show job`` prints."""
    found = []
    for line in text.splitlines():
        told = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobId" not in told:
            continue
        array, task = told.get("ArrayJobId"), told.get("ArrayTaskId")
        name = told["JobId"] if array is None or task is None else f"{array}_{task}"
        # CODE:SIGNAL, of which one says what happened.
        code, _, signal = told.get("ExitCode", "").partition(":")
        where = f"signal {signal}" if signal not in ("", "0") else f"exit code {code}" if code not in ("", "0") else ""
        state = told.get("JobState", "")
        found.append(QueuedJob(name=name, number=told["JobId"], state=state, used=told.get("RunTime", ""), where=where))
    return found


def seconds_of(text: str) -> int:
    """Seconds in a time as Slurm writes it: ``MM:SS``, ``HH:MM:SS``, ``D-HH:MM:SS``; 0 for a word."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def why_it_waits(reason: str) -> str | None:
    """What a reason for waiting means, where something can be done about it, or it looks stranger than it is."""
    word = reason.strip("()")
    return next((told for pattern, told in REASONS if re.match(rf"(?:{pattern})", word)), None)


def own_words(stderr: str) -> str:
    """What a command of Slurm complained of, without what it puts before each line."""
    lines = [re.sub(r"^(sbatch|scancel|squeue|scontrol): (error: |fatal: )?", "", line) for line in stderr.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "it said nothing"


def remedy(words: str) -> str:
    """What to change about a submission that was refused with these words."""
    return next(_matching(words), "change the option that it speaks of; sbatch's own go behind --")


def _matching(words: str) -> Iterator[str]:
    for pattern, told in REMEDIES:
        if re.search(pattern, words, re.IGNORECASE):
            yield told
