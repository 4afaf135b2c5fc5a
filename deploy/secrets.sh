#!/bin/sh
# Prints .env.example with every empty secret made up: deploy/secrets.sh > .env
set -eu
cd "$(dirname "$0")/.."
hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
while IFS= read -r line; do
  case "$line" in
    *=) printf '%s%s\n' "$line" "$(hex 20)" ;;
    *) printf '%s\n' "$line" ;;
  esac
done < .env.example
