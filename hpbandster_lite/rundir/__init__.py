"""The run directory: its paths, keys, endpoint and small files, and the checkpoints below it."""

from hpbandster_lite.rundir.directory import (
    RunDirectory,
    default_run_directory,
    ensure_key_file,
    free_directory_like,
    hosts_of,
    is_told_well,
    os_errors_as_ours,
    read_given_key,
    refuse_given_if_open,
    refuse_if_open_to_others,
    write_atomically,
)

__all__ = [
    "RunDirectory",
    "default_run_directory",
    "ensure_key_file",
    "free_directory_like",
    "hosts_of",
    "is_told_well",
    "os_errors_as_ours",
    "read_given_key",
    "refuse_given_if_open",
    "refuse_if_open_to_others",
    "write_atomically",
]
