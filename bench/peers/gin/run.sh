#!/usr/bin/env bash
# The article's Gin design with Gin's default middleware.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../gin.sh"

main "$@"
