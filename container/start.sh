#!/bin/sh
# Starts the server in its container, whose network is its own: it listens at all addresses there.
# MRNOISE_HOST, MRNOISE_PORT: where; MRNOISE_CAPTURE: folder that keeps the raw streams. Arguments go to mrnoise serve.
set -eu
if [ -n "${MRNOISE_CAPTURE:-}" ]; then
  set -- --capture "$MRNOISE_CAPTURE" "$@"
fi
exec mrnoise serve --host "${MRNOISE_HOST:-0.0.0.0}" --port "${MRNOISE_PORT:-9002}" "$@"
