"""The run directory: its paths, keys, endpoint, small files and checkpoints.

Law of this room: a file that other processes read is replaced as a whole, and a secret is readable by its owner alone.
"""

from hpbandster_lite.rundir.checkpoint_sizes import CheckpointSizes, size_text
from hpbandster_lite.rundir.checkpoints import (
    CheckpointKeeper,
    checkpoint_files,
    delete_attempts,
    delete_checkpoint,
    holds_anything_kept,
    holds_checkpoint,
)
from hpbandster_lite.rundir.directory import (
    RunDirectory,
    default_run_directory,
    free_directory_like,
    is_valid_directory,
    named_run_directory,
)
from hpbandster_lite.rundir.endpoint import hosts_of
from hpbandster_lite.rundir.files import (
    PARTIAL_SUFFIX,
    os_errors_as_ours,
    refuse_given_if_open,
    refuse_given_if_writable,
    refuse_if_open_to_others,
    refuse_to_replace,
    replace_whole,
    sync,
    write_atomically,
)
from hpbandster_lite.rundir.holder import holder_noted, in_words, read_holder, why_no_answer, why_stopped
from hpbandster_lite.rundir.keys import ensure_key_file, read_given_key

__all__ = [
    "PARTIAL_SUFFIX",
    "CheckpointKeeper",
    "CheckpointSizes",
    "RunDirectory",
    "checkpoint_files",
    "default_run_directory",
    "delete_attempts",
    "delete_checkpoint",
    "ensure_key_file",
    "free_directory_like",
    "holder_noted",
    "holds_anything_kept",
    "holds_checkpoint",
    "hosts_of",
    "in_words",
    "is_valid_directory",
    "named_run_directory",
    "os_errors_as_ours",
    "read_given_key",
    "read_holder",
    "refuse_given_if_open",
    "refuse_given_if_writable",
    "refuse_if_open_to_others",
    "refuse_to_replace",
    "replace_whole",
    "size_text",
    "sync",
    "why_no_answer",
    "why_stopped",
    "write_atomically",
]
