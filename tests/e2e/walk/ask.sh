#!/usr/bin/env bash
# One prediction, on a connection of its own: the version that answered, or why none did.
url=http://$(cat address)/v2/models/fraud/infer
answer=$(curl -sS --fail-with-body --max-time 20 --json @question.json "$url" 2>&1) || { echo "failed: $answer"; exit; }
grep -o 'model_version":"[^"]*' <<<"$answer" | cut -d'"' -f3
sleep 0.1
