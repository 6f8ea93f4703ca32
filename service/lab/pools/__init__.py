"""Recording and replay of model output: questions with known answers, and pools of samples.

    jsonl             rows of JSON lines files, with errors that name file and line
    questions         questions with known answers
    format            line types of a pool file, and keys of draws
    pool              a pool in memory, and the file it is appended to
    sample_order      permutation of samples under a shuffle
    drawing           one call to an engine, recorded completely
    record            drawing of the samples that a pool is missing
    sample_drawer     shared drawing of the calls that replays are missing
    recorded_answers  answers recorded by others, as a pool
    clock             event loop with virtual time
    replay_engine     engine that serves a pool
    recording_engine  engine that serves a pool and records missing calls from another engine
    replay_run        one run of a strategy over a pool

`docs/decisions/0009-pools-are-json-lines-and-replays-use-a-virtual-clock.md` explains the format.
"""
