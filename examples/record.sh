#!/bin/sh
# Recording with curl: one record, then several. curl tries again after 503, as Retry-After says; the keys make that safe.
#
#   USAGE_URL=http://127.0.0.1:8080 sh examples/record.sh
set -eu

project="${USAGE_URL:-http://127.0.0.1:8080}/api/billing/public/projects/proj_nCBo0AB7UWpj"

post() {
    curl --silent --show-error --fail-with-body --max-time 60 --connect-timeout 5 \
        --retry 5 --retry-connrefused --retry-max-time 60 "$@"
    echo
}

post "$project/usage" \
    --header 'Content-Type: application/json' \
    --header 'Idempotency-Key: order-45' \
    --data '{"email": "amari_koss69@northwind.dev", "metric": "program quantify", "quantity": "195.84"}'

# Up to 1000 records, one a line. Each counts under <key>:<its number>, or under a key of its own.
post "$project/usage/batch" \
    --header 'Content-Type: application/x-ndjson' \
    --header 'Idempotency-Key: night-2026-11-25' \
    --data-binary @- <<'RECORDS'
{"email": "amari_koss69@northwind.dev", "metric": "gigabytes stored", "quantity": "12.000000001"}
{"email": "amari_koss69@northwind.dev", "metric": "gigabytes stored", "quantity": "0.5", "idempotencyKey": "order-46"}
RECORDS
