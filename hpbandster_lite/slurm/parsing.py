"""Parses the output of Slurm's commands, and finds the remedy for their errors.

Law of this file: pure functions from text to values. The formats are those of Slurm 20.11 to 24.05.
"""

from __future__ import annotations

import re

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records.decorator import record

QUEUE_FORMAT = "%i|%A|%T|%M|%L|%R"
"""For squeue: job and task, job number of the task, state, time used, time left, nodes or reason for waiting."""
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"})
ENDING = "COMPLETING"
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"partition name specified|invalid partition specified",
        "--partition names a partition that does not exist; sinfo -s lists them",
    ),
    (
        r"account or account/partition combination|invalid account",
        "name one of your accounts with --account; sacctmgr show assoc user=$USER format=account,partition lists them",
    ),
    (
        r"invalid qos",
        "name one of your QOS after -- as --qos=NAME; sacctmgr show assoc user=$USER format=account,qos lists them",
    ),
    (
        r"time limit is invalid|exceeds? some limit|time limit exceeds",
        "request a shorter --time; sinfo -o '%P %l' lists the limit of each partition. A search may take several jobs: "
        "each job is requeued at its time limit",
    ),
    (
        r"invalid (--time|time limit) specification|invalid time",
        "--time takes minutes (90), hours:minutes:seconds (12:00:00) or days-hours (1-12)",
    ),
    (
        r"generic resource|invalid gres|gres specification",
        "this cluster names its GPUs differently; sinfo -o '%P %G' lists the names. Give the name after --, for "
        "example -- --gres=gpu:a100:1, or use --gpus-per-worker 0 for workers without a GPU",
    ),
    (
        r"node configuration is not available|more processors requested|memory specification",
        "no node of the partition is large enough; sinfo -o '%P %G %c %m' lists GPUs, cores and memory of each. Use a "
        "smaller --gpus-per-worker or --cpus-per-worker, or another --partition",
    ),
    (
        r"job array specification",
        "the array is larger than this cluster allows; scontrol show config | grep MaxArraySize prints the limit. "
        "Start with fewer --workers; slurm scale adds further arrays",
    ),
    (
        r"accounting/qos policy|qos\w*limit|assoc\w*limit|submit limit",
        "your account has reached its limit; use fewer --workers or a shorter --time, or cancel other jobs",
    ),
    (r"invalid feature|constraint", "sinfo -o '%P %f' lists the valid values of --constraint"),
    (
        r"unrecognized option|invalid option|requires an argument",
        "sbatch does not know an option after --; see man sbatch",
    ),
    (
        r"permission denied|not permitted",
        "your account may not use this partition; sinfo -s lists the partitions",
    ),
    (r"dependency", "the master's job has already ended; scontrol show job prints its exit code"),
)
"""Patterns for sbatch's error message, each with the remedy; the first match counts."""
REASONS: tuple[tuple[str, str], ...] = (
    (
        r"Partition(Config|\w*Limit)|ReqNodeNotAvail|BadConstraints",
        "the job requests more than its partition has or allows: see sinfo -o '%P %l %D %G %c %m'; cancel it, and "
        "submit with a shorter --time, fewer --nodes or another --partition",
    ),
    (
        r"QOS\w*|Assoc\w*|AccountNotAllowed|Invalid(Account|QOS)",
        "your account has reached its limit; the job waits until other jobs of yours have ended",
    ),
    (r"DependencyNeverSatisfied", "the master's job ended before it started; cancel the search, and submit it again"),
    (
        r"JobHeld(User|Admin)|launch failed requeued held",
        "the job is held; correct the cause, then release it with: scontrol release JOB",
    ),
    (r"BeginTime", "the job was requeued, and starts after the delay that this cluster sets"),
    (
        r"JobArrayTaskLimit",
        "the array's throttle is reached; raise it with: scontrol update JobId=JOB ArrayTaskThrottle=N",
    ),
)
"""Patterns for reasons for waiting that need an explanation, each with the explanation and the remedy."""
UNREACHABLE = re.compile(
    r"unable to contact slurm controller|connection refused|socket timed out|slurm_persist", re.IGNORECASE
)


@record(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """A job, or a task of an array, as Slurm reports it.

    Attributes
    ----------
    name
        ``12``, or ``12_3`` for task 3 of array 12; an argument of scancel.
    number
        The job number, which the job has as SLURM_JOB_ID.
    state
        Slurm's name of the state.
    used, left
        Time in Slurm's format; empty if Slurm does not report it.
    where
        The nodes, or the reason for waiting in parentheses, or the exit code of a job that ended.
    """

    name: str
    number: str
    state: str
    used: str = ""
    left: str = ""
    where: str = ""

    @property
    def array(self) -> str:
        """Job number of the array, or of a single job, which sbatch printed."""
        return self.name.partition("_")[0]

    @property
    def is_waiting(self) -> bool:
        """Whether the job waits to start, or to start again."""
        return self.state in WAITING

    @property
    def is_active(self) -> bool:
        """Whether the job runs or waits; a completing job does neither."""
        return self.is_waiting or self.state in RUNNING

    @property
    def used_s(self) -> int:
        """Seconds that the job has run; 0 if Slurm does not report them."""
        return seconds_of(self.used)


def parse_job_number(text: str) -> str:
    """Job number in the output of ``sbatch --parsable``.

    Raises
    ------
    UsageError
        If the output has none.
    """
    last = (text.strip().splitlines() or [""])[-1]
    number = last.partition(";")[0].strip()
    if not number.isdecimal():
        raise UsageError(
            f"sbatch printed {text.strip()!r} instead of a job number; check whether your site wraps sbatch"
        )
    return number


def parse_squeue(text: str) -> list[QueuedJob]:
    """Jobs in the output of squeue with :data:`QUEUE_FORMAT`, one array task in each line."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 5)]
        if len(fields) == 6:
            name, number, state, used, left, where = fields
            found.append(QueuedJob(name=name, number=number, state=state, used=used, left=left, where=where))
    return found


def parse_scontrol(text: str) -> list[QueuedJob]:
    """Jobs in the output of ``scontrol --oneliner show job``."""
    found = []
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        if "JobId" not in fields:
            continue
        array, task = fields.get("ArrayJobId"), fields.get("ArrayTaskId")
        name = fields["JobId"] if array is None or task is None else f"{array}_{task}"
        # CODE:SIGNAL, of which at most one is not zero.
        code, _, signal = fields.get("ExitCode", "").partition(":")
        where = f"signal {signal}" if signal not in ("", "0") else f"exit code {code}" if code not in ("", "0") else ""
        state = fields.get("JobState", "")
        found.append(
            QueuedJob(name=name, number=fields["JobId"], state=state, used=fields.get("RunTime", ""), where=where)
        )
    return found


def seconds_of(text: str) -> int:
    """Seconds in a time in Slurm's format: ``MM:SS``, ``HH:MM:SS``, ``D-HH:MM:SS``; 0 for other texts."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def limit_seconds(text: str) -> int:
    """Seconds in a time limit as sbatch takes it: ``MM``, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ...; 0 for other texts."""
    days, dash, rest = text.partition("-")
    parts = (rest if dash else text).split(":")
    if not all(part.isdecimal() for part in [*([days] if dash else []), *parts]) or len(parts) > 3:
        return 0
    # After days the first part is hours; without days two parts or fewer begin with minutes.
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    in_parts = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return in_parts + (int(days) * 86_400 if dash else 0)


def explain_reason(reason: str) -> str | None:
    """Explanation of a reason for waiting, with the remedy; None if the reason needs none."""
    name = reason.strip("()")
    return next((explanation for pattern, explanation in REASONS if re.match(rf"(?:{pattern})", name)), None)


def error_text(stderr: str) -> str:
    """Error message of a Slurm command, without the prefix of each line."""
    lines = [re.sub(r"^(sbatch|scancel|squeue|scontrol): (error: |fatal: )?", "", line) for line in stderr.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip()) or "no error message"


def remedy(message: str) -> str:
    """The remedy for a submission that sbatch refused with this message."""
    matching = (advice for pattern, advice in REMEDIES if re.search(pattern, message, re.IGNORECASE))
    return next(matching, "change the option that the message names; options of sbatch come after --")
