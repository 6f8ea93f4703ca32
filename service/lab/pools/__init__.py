"""Record once, replay everything: questions with known answers, and what a model wrote to them.

    jsonl       lines of a file, and what is wrong with one by its number
    questions   questions with their known answers
    format      the lines of a pool, and what makes two calls the same draw
    pool        a pool in memory, and the file that it grows in
    places      which sample a shuffled replay serves as which
    record      draws what a pool lacks, with what `drawing` takes down of each call
    recorded    other people's recorded answers, as a pool
    clock       time that passes only in sleeps
    replay      the engine that a pool is; `recording` asks another engine for what the pool lacks
    replaying   a strategy's run over a pool

Reasons for the format: `docs/decisions/0009-pools-are-json-lines-and-replays-use-a-virtual-clock.md`.
"""
