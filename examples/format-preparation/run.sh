#!/usr/bin/env bash
# Raw text to a checked standard table, with provenance both ways: needs `pip install cubeport ./plugin`.
# Run it in an empty folder that holds standardise.yaml and check.yaml.
set -eu
cubeport init --core --quiet work > made
mkdir -p work/config/pipelines
cp standardise.yaml check.yaml work/config/pipelines/
export CUBEPORT_INSTANCE=work

printf 'Mace Head, CH4, \xb5g\n01/06/2018 00:00;1.9012\n01/06/2018 01:00;1.9034\n' > raw.txt
cubeport add raw.txt --kind raw --key raw:mhd --title 'CH4 at Mace Head' --quiet > added

echo "-- what would be done"
cubeport run standardise raw:mhd --dry-run
cubeport run standardise raw:mhd --quiet > ran
id=$(cubeport search --kind standard --ids)
echo "-- the standard table"
cat "$(cubeport path "$id")"

echo "-- checked"
cubeport run check "$id" --quiet > ran
cubeport search 'series.rows=2' --fields title,series.columns,series.highest --format csv

echo "-- where it comes from, and what came of the raw file"
cubeport lineage "$id" --up --json | python -c 'import json, sys; print([edge["rel"] for edge in json.load(sys.stdin)["edges"]])'
cubeport lineage raw:mhd --down --json | python -c 'import json, sys; print([edge["rel"] for edge in json.load(sys.stdin)["edges"]])'

echo "-- a raw file that is not what it should be leaves nothing"
printf 'Mace Head\n01/06/2018 00:00;n/a\n' > broken.txt
cubeport run standardise broken.txt 2> problem || echo "exit $?"
cubeport search --kind standard --count
find work/files -name '*.csv' | wc -l | tr -d ' '
