#!/usr/bin/env bash
# Gin without the logger, with pooled frames and merged writes.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../gin.sh"

main "$@"
