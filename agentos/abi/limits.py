"""Every bound of agentos, in one place. Units are in the names; nothing in the runtime grows past these."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- calls -------------------------------------------------------------------------------------------------------------
ARGS_BYTES_MAX: Final = 16 * MIB  # one call's encoded arguments
RESULT_BYTES_MAX: Final = 64 * MIB  # one call's encoded result
CALLS_IN_FLIGHT_MAX: Final = 64  # per process
CALLS_PER_SAVE_MAX: Final = 10_000  # syscalls of a durable program after its last save point
CALLS_PER_SAVE_WARN: Final = 8_000
GATHER_WIDTH_MAX: Final = 10_000  # branches of one gather
RETRIES_MAX: Final = 100
BACKOFF_S_MAX: Final = 3600.0  # pause before a retry of a program's call, however often it was doubled
IDENTIFIER_CHARS_MAX: Final = 200  # names, channels, keys, namespaces

# --- processes ---------------------------------------------------------------------------------------------------------
LINEAGE_DEPTH_MAX: Final = 64
CAPS_PER_PROCESS_MAX: Final = 1_000
GOAL_BYTES_MAX: Final = 256 * KIB
ACTIVE_MAX: Final = 256  # processes whose program is being run (not waiting, not inside a device) at once
RESIDENT_WAITING_MAX: Final = 512  # waiting processes that keep their task; the oldest beyond are unwound
FAIR_LEAD_CALLS: Final = 32  # calls by which one tree may lead the slowest ready tree
SLICE_S: Final = 0.002  # a process that has not suspended for this long lets others run at its next call
STEP_LOG_S: Final = 0.05  # a program step on the loop longer than this is logged
STEP_REPORT_S: Final = 1.0  # and longer than this is reported as an event
MAILBOX_MESSAGES_MAX: Final = 10_000  # per process
ASKS_PENDING_MAX: Final = 10_000  # per kernel
EVENTS_KEPT_MAX: Final = 10_000  # per follower of the event stream
THREADS_MAX: Final = 16  # worker threads for synchronous device functions
GRACE_S: Final = 5.0  # what running effects get when the kernel closes
REPLAY_CACHE_ROWS: Final = 256  # rows read at once from a process's tape
QUERY_S: Final = 5.0  # what a parked program gets to come back and answer a query
REPLAY_GAP_S: Final = 10.0  # what a program gets from one call to the next when it is replayed

# --- checkpoints -------------------------------------------------------------------------------------------------------
CHECKPOINTS_PER_TREE_MAX: Final = 1_000
RESTORE_LISTED_MAX: Final = 1_000  # effects, and shared objects, that the report of a restore lists; the rest are counted
DIFF_ROWS_MAX: Final = 100_000  # journal rows that a comparison of two checkpoints looks through
IMAGE_SEED_BYTES_MAX: Final = 16 * MIB  # saved state and objects that a committed image starts its processes with

# --- schedules and recovery ----------------------------------------------------------------------------------------------
SCHEDULES_MAX: Final = 1_000  # live ones, per kernel
SCHEDULE_EVERY_S_MIN: Final = 1.0
SCHEDULE_EVERY_S_MAX: Final = 366 * 86_400.0
SCHEDULES_AT_ONCE_MAX: Final = 32  # runs that are started before others get a turn
MISSED_COUNTED_MAX: Final = 1_000  # runs of a calendar that were missed while no kernel ran; more are counted as so many
SUSPECT_RESUMES: Final = 2  # resumes in a row without progress after which a process is resumed alone
POISON_RESUMES_MAX: Final = 4  # and after which it is set aside
POISON_ROWS_SHOWN: Final = 10  # newest rows of a process that is set aside, in the note that says so
SUSPECT_S: Final = 10.0  # what the others get to come to rest, and a suspect to make progress, before the next is resumed
RECONCILE_S: Final = 30.0  # what a device gets to say whether an interrupted effect happened

# --- journal and store -------------------------------------------------------------------------------------------------
BATCH_ROWS_MAX: Final = 512  # buffered rows after which append commits before it returns
BATCH_BYTES_MAX: Final = 4 * MIB
INLINE_BYTES_MAX: Final = 2 * KIB  # larger values go to the object table
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
PAGE_ROWS: Final = 500  # rows of one page of any list
LIST_LIMIT_DEFAULT: Final = 100
LIST_LIMIT_MAX: Final = 1_000
BUSY_TIMEOUT_S: Final = 5.0
COMMIT_INLINE_S: Final = 0.003  # commits expected to take longer than this leave the event loop
SERVER_CONNECT_S: Final = 10.0  # what a database server gets to take a connection
SERVER_REPLY_S: Final = 30.0  # and to answer one statement, or a batch of them
LEASE_TTL_S: Final = 15.0  # for so long a kernel on a database server is the writer; renewed every third of it
LEASE_TTL_S_MIN: Final = 0.5
LEASE_TTL_S_MAX: Final = 3600.0
LEASE_MARGIN: Final = 0.1  # share of that by which a kernel stops acting before its lease ends
INBOX_ROWS_MAX: Final = 10_000  # requests of other machines that wait in a database
STANDBY_POLL_S: Final = 0.5  # how often a standby kernel looks whether the lease is free, beside being told
SEGMENT_NUMBERS: Final = 1_000  # journal numbers whose archived rows share one page
SEGMENT_PAGES_KEPT: Final = 4  # unpacked pages that a reader keeps at hand
UPKEEP_ROWS: Final = 500  # rows, versions or objects that one transaction of the upkeep touches
UPKEEP_EVERY_S: Final = 3600.0  # how often retention rules are applied while a kernel runs

# --- files -------------------------------------------------------------------------------------------------------------
PATH_BYTES_MAX: Final = 4096
PATH_SEGMENTS_MAX: Final = 128
SEGMENT_BYTES_MAX: Final = 255
READ_BYTES_DEFAULT: Final = 1 * MIB
READ_BYTES_MAX: Final = 16 * MIB
WRITE_BYTES_MAX: Final = 16 * MIB
BEFORE_IMAGE_BYTES_MAX: Final = 64 * MIB
LIST_ENTRIES_MAX: Final = 100_000
FILE_LABELS_MAX: Final = 100_000  # files that carry a label
OVERLAY_FILES_MAX: Final = 10_000  # paths that one speculative process has changed
OVERLAY_BYTES_MAX: Final = 256 * MIB  # of their contents

# --- labels and provenance -----------------------------------------------------------------------------------------------
HANDLE_BYTES_MIN: Final = 32 * KIB  # larger results are behind a handle, where an image wants that
RESULT_LEAVES_MAX: Final = 4_096  # fields of one result that are looked at
PROVENANCE_ROWS_MAX: Final = 4_096  # newest rows of a process from which its index of values is read again
PROVENANCE_LEAVES_MAX: Final = 65_536  # fields of results that a process's index keeps; the oldest beyond are dropped
PROVENANCE_DEPTH_MAX: Final = 64  # nesting of a result or argument that is followed
WORDS_TEXT_CHARS_MAX: Final = 256 * KIB  # of one text whose words count as their author's
WORDS_CHARS_MAX: Final = 512 * KIB  # of all texts of one author, a short text counting as 256

# --- policy ------------------------------------------------------------------------------------------------------------
POLICY_BYTES_MAX: Final = 1 * MIB
POLICY_RULES_MAX: Final = 20_000
OWN_LAYER_BYTES_MAX: Final = 64 * KIB  # of the text that a process replaces its own layer with
POLICY_EXPR_DEPTH_MAX: Final = 64
POLICY_LAYERS_MAX: Final = 64
DECISION_CACHE_MAX: Final = 4_096  # cached verdicts per process
QUOTAS_MAX: Final = 100_000  # counters of limits and of history in use
QUOTA_VALUES_MAX: Final = 10_000  # of them, values that split one limit

# --- people ------------------------------------------------------------------------------------------------------------
ASK_TIMEOUT_S: Final = 4 * 3600.0
PREVIEW_BYTES_MAX: Final = 64 * KIB
QUESTION_BYTES_MAX: Final = 16 * KIB
STANDING_GRANTS_MAX: Final = 1_000  # per kernel
STANDING_GRANT_S_MAX: Final = 366 * 86_400.0  # a grant for a while
WOULD_COVER_ROWS: Final = 500  # newest rows that are looked through for what an offer would have covered
WOULD_COVER_MAX: Final = 20  # calls of them that are shown

# --- images ------------------------------------------------------------------------------------------------------------
MANIFEST_BYTES_MAX: Final = 1 * MIB
YAML_DEPTH_MAX: Final = 32
IMAGE_FILE_BYTES_MAX: Final = 4 * MIB  # one file of a package
IMAGE_FILES_MAX: Final = 1_000  # files of one skill
IMAGE_PARENTS_MAX: Final = 16  # length of a chain of `from`
TURNS_DEFAULT: Final = 40  # of a react program
TURNS_MAX: Final = 100_000

# --- control socket ----------------------------------------------------------------------------------------------------
CONTROL_FRAME_BYTES_MAX: Final = 16 * MIB  # one request
CONTROL_REPLY_BYTES_MAX: Final = 96 * MIB  # one reply: the largest result in base64, with room
CONTROL_CLIENTS_MAX: Final = 128  # connections; a stream has one of its own
CONTROL_REQUESTS_MAX: Final = 256  # under way at once, per connection
CONTROL_REPLY_S: Final = 5.0  # what a kernel gets to greet a client, and to answer one that blocks

# --- models ------------------------------------------------------------------------------------------------------------
MODEL_REPLY_CHARS_MAX: Final = 4 * MIB  # text and arguments of one answer
MODEL_REPLY_BYTES_MAX: Final = 64 * MIB  # of one answer as it is sent: a streamed one has some 200 bytes around each piece
EMBED_TEXTS_MAX: Final = 2_048  # texts of one request for vectors; more are several requests
MODEL_SLOTS: Final = 16  # attempts of one profile under way at once
SCRIPTED_SLOTS: Final = 1_024  # the same of a model without a server
MODEL_TIMEOUT_S: Final = 120.0  # of one attempt
MODEL_RETRIES: Final = 10  # of a turn's model call, about a quarter of an hour in all
MODEL_BACKOFF_S_MAX: Final = 300.0  # pause before one of them, where the server does not ask for more
HANG_UP_S: Final = 2.0  # what closing the connections to model servers may take
TURN_CALLS_MAX: Final = 128  # tool calls of one turn that are made; the model is told of the rest
ANSWER_REPAIRS_MAX: Final = 3  # answers in a row that a model may give again: empty, cut off, or not as the schema says
SAME_FAILURE_MAX: Final = 3  # times that one call may fail in the same way before it is not made again
SAME_TURN_WARN: Final = 3  # turns in a row with the same calls and the same results after which a model is told
SAME_TURN_MAX: Final = 6  # and after which its process fails
TOOL_TEXT_TOKENS_MAX: Final = 2_000  # of one result in a prompt; more is kept as an object and told as an excerpt
REMEMBERED_CALLS_MAX: Final = 64  # denied and failed calls that a process remembers
PAGE_OUT_AT: Final = 0.7  # share of a prompt's budget above which its oldest turns are paged out
PAGE_OUT_TO: Final = 0.5  # until it is down to this
PAGES_SHOWN_MAX: Final = 8  # lines of a prompt that tell of pages; more become an index, which is a page
