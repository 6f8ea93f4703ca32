#!/bin/sh
# Ask secondpass with curl: JSON, server-sent events, and OpenAI's chat completions.
#
#   sh examples/curl.sh
#
# BASE_URL and API_KEY are read from the environment.
set -eu

BASE_URL=${BASE_URL:-http://127.0.0.1:8000}

# request PATH [CURL OPTION...]: one request, and a line break after its response.
request() {
  path=$1
  shift
  curl -sS --fail-with-body --no-buffer -w '\n' -H 'Content-Type: application/json' \
    ${API_KEY:+-H "Authorization: Bearer $API_KEY"} "$BASE_URL$path" "$@"
}

# The first model in the list; with jq: jq -r '.data[0].id'.
model=$(request /v1/models | tr ',{' '\n\n' | sed -n 's/^ *"id": *"\(.*\)"$/\1/p' | head -n 1)
[ -n "$model" ] || exit 1

printf '# POST /solve, JSON\n'
request /solve -d '{
  "question": "What is 6 times 7?",
  "strategy": {"name": "self_consistency", "params": {"n": 3}},
  "task": {"kind": "math"},
  "sampling": {"max_tokens": 128}
}'

# The answer is streamed as `answer.delta` events. The last event, `run.finished`, has the whole response.
printf '\n# POST /solve, server-sent events\n'
request /solve -d '{
  "question": "What is 6 times 7?",
  "strategy": "single",
  "sampling": {"max_tokens": 128},
  "stream": true
}'

printf '# POST /v1/chat/completions, model %s@self_consistency\n' "$model"
request /v1/chat/completions -d '{
  "model": "'"$model"'@self_consistency",
  "messages": [{"role": "user", "content": "What is 6 times 7?"}],
  "max_tokens": 128,
  "secondpass": {"params": {"n": 3}, "task": {"kind": "math"}}
}'
